"""Times of rows as the service writes times: RFC 3339, UTC, microseconds, ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["rfc3339"]


def rfc3339(moment: datetime) -> str:
    """Return ``moment`` (with an offset) as ``transport.clock`` would have written it.

    For PostgreSQL's infinities asyncpg returns Python's first and last moment, without an offset.
    """
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
