"""What is made of finished runs: statistics, curves, comparisons, reports. Starts no training."""
