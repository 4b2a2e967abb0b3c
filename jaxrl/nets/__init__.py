"""Linen modules, and what they see of observations."""
