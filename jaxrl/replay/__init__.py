"""Experience replay as arrays and pure functions."""
