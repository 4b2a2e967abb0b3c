"""Agents that act by values from a network."""
