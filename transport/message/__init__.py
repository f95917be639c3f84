"""The message: its id, its partition, its envelope, and its dead letter in a log."""
