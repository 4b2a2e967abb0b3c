"""The Recurrent Attention Model: an agent that decides where to look."""
