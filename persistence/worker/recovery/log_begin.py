"""Where a log begins: what is before that is gone from it."""

from __future__ import annotations

from transport.contract import Topic, Transport

__all__ = ["before_first", "holds_all"]


async def holds_all(log: Transport, topic: Topic, partition: int, through: str) -> bool:
    """Return whether a log holds everything after a position, empty at the beginning.

    Raises:
        TransportUnavailable: the log can't be asked now.
    """
    if await log.reaches(topic, partition, after=through or None):
        return True
    # A log that a release before this one trimmed can't tell. Nothing stands in between, though.
    return bool(through) and through == await before_first(log, topic, partition)


async def before_first(log: Transport, topic: Topic, partition: int) -> str | None:
    """Return the offset just before the first record that a log holds, ``None`` without any.

    Raises:
        TransportUnavailable: the log can't be asked now.
    """
    first = await log.read(topic, partition, limit=1)
    return log.offset_before(first[0].offset) if first else None
