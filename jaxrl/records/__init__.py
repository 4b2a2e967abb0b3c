"""What a run writes and says: rows, sinks, checkpoints, the console."""
