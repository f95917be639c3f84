"""From HTTP to the log: the hot path, group commit, idempotency, and the ordinary routes."""
