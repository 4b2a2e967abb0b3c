"""Sweeps: many runs at once over seeds and hyperparameters, and what to make of their results."""
