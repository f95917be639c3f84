"""Times as the service writes them: RFC 3339, UTC, microseconds, ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["FIRST", "LAST", "moment", "now", "timestamp"]

FIRST = datetime(1, 1, 2, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)
"""The bounds of a time of ours. A day from Python's own: any time zone has a name for them, and
asyncpg takes Python's first and last moment for PostgreSQL's infinities."""


def moment(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC.

    A log takes any number for a time: Redis ids go up to 2^64 milliseconds, Kafka's timestamps to
    2^63. What lies before the year 1 or after 9999 becomes ``FIRST`` or ``LAST``.
    """
    try:
        return min(max(datetime.fromtimestamp(seconds, UTC), FIRST), LAST)
    except (ValueError, OverflowError, OSError):
        return LAST if seconds > 0 else FIRST


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 text; see ``moment`` for odd ones."""
    # Not strftime, which writes the year 1 with one digit.
    return moment(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")


def now() -> str:
    """Return this moment as RFC 3339 text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
