"""The longest time that a process of the service may take to stop."""

from __future__ import annotations

from compose.settings import ProcessSettings

__all__ = ["longest_stop"]

_SLACK = 8.0  # seconds for flushing the application's buffers and closing connections


def longest_stop(settings: ProcessSettings) -> float:
    """Return the seconds after which a process that was asked to stop counts as stuck."""
    return settings.shutdown_delay_seconds + settings.shutdown_grace_seconds + _SLACK
