"""Agents that learn action values and an actor off-policy: for continuous actions, and one of them for discrete ones."""
