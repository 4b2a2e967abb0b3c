"""Many runs as batches of compiled programs."""
