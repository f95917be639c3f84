"""The brokers that can be started here, and settings that keep their data small in a soak.

A soak checks that sizes stay flat, which needs brokers that delete old data within minutes.
"""

from __future__ import annotations

__all__ = ["FIRST", "SMALL", "STARTED"]

STARTED = ("redis", "kafka")
FIRST = STARTED[0]
"""The default broker."""
SMALL = {
    "redis": {"auto-aof-rewrite-min-size": "16mb"},
    "kafka": {"log.roll.ms": "60000", "log.retention.check.interval.ms": "10000"},
}
