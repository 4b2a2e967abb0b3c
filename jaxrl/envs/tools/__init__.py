"""What adapters and environments are built of: batching, wrappers, pictures, host environments."""
