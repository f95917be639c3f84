"""The HTTP API: messages on their way to the log (the hot path), and all other routes."""
