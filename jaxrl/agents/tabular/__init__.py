"""Agents whose action values are a table."""
