"""Times in the format of the service: RFC 3339, UTC, microseconds, ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["FIRST", "LAST", "moment", "now", "timestamp"]

FIRST = datetime(1, 1, 2, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)
"""The last time that the service uses; ``FIRST`` is the first. They are a day inside Python's
bounds, so that they exist in every time zone. (asyncpg also takes Python's first and last moment
for PostgreSQL's infinities.)"""


def moment(seconds: float) -> datetime:
    """Return seconds since the Unix epoch as a time in UTC.

    A log may have any number as a time: Redis ids go up to 2^64 milliseconds, Kafka's timestamps to
    2^63. Times before ``FIRST`` or after ``LAST`` become these.
    """
    try:
        return min(max(datetime.fromtimestamp(seconds, UTC), FIRST), LAST)
    except (ValueError, OverflowError, OSError):
        return LAST if seconds > 0 else FIRST


def timestamp(seconds: float) -> str:
    """Return seconds since the Unix epoch as RFC 3339 text, bounded as by ``moment``."""
    # Not strftime, which writes the year 1 with one digit.
    return moment(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")


def now() -> str:
    """Return the current time as RFC 3339 text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
