"""The longest time that a process of the service takes to stop."""

from __future__ import annotations

from compose.settings import ProcessSettings

__all__ = ["longest_stop"]

_SLACK = 8.0  # seconds: to flush what the application holds, and to close


def longest_stop(settings: ProcessSettings) -> float:
    """Return the seconds after which a process that was asked to stop is stuck."""
    return settings.shutdown_delay_seconds + settings.shutdown_grace_seconds + _SLACK
