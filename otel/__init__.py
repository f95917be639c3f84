"""Metrics, logs, traces, and the decorators that feed them. No business logic."""
