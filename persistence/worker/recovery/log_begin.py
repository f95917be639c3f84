"""Where a log begins: records before that are gone."""

from __future__ import annotations

from transport.contract import Topic, Transport

__all__ = ["before_first", "holds_all"]


async def holds_all(log: Transport, topic: Topic, partition: int, through: str) -> bool:
    """Return whether a log holds every record after a position (empty: the beginning)."""
    if await log.reaches(topic, partition, after=through or None):
        return True
    # A log that an earlier release trimmed can't tell. But if ``through`` is just before its first
    # record, nothing is missing.
    return bool(through) and through == await before_first(log, topic, partition)


async def before_first(log: Transport, topic: Topic, partition: int) -> str | None:
    """Return the offset just before the first record that a log holds; ``None`` if it has none."""
    first = await log.read(topic, partition, limit=1)
    return log.offset_before(first[0].offset) if first else None
