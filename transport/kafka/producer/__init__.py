"""The producer: sends a tick's batches in one request to each leader, each in order and once."""
