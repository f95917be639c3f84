"""What an operator sees: metrics, logs, and the decorators that feed them. No business logic."""
