"""The logs whose servers are started here, and settings that make a soak's logs small.

Sizes can only be flat if old data goes within minutes, and not within days.
"""

from __future__ import annotations

__all__ = ["FIRST", "SMALL", "STARTED"]

STARTED = ("redis", "kafka")
FIRST = STARTED[0]
"""The one where none is named."""
SMALL = {
    "redis": {"auto-aof-rewrite-min-size": "16mb"},
    "kafka": {"log.roll.ms": "60000", "log.retention.check.interval.ms": "10000"},
}
