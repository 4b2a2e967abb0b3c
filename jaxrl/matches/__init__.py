"""Games between players: the Go Text Protocol, records of games."""
