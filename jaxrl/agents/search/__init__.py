"""Agents that look ahead: they search a tree of what may follow, and learn from what they found."""
