"""The producer: a tick's batches as one request to each leader, each in order and once."""
