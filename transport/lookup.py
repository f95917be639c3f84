"""The look-up of one record by its offset."""

from __future__ import annotations

from transport.contract import Record, Topic, Transport

__all__ = ["record_at"]


async def record_at(log: Transport, topic: Topic, partition: int, offset: str) -> Record | None:
    """Return the record at exactly ``offset``; ``None`` if there is none, or none any more.

    Raises:
        ValueError: ``offset`` is no offset of this log.
        TransportUnavailable: the log can't be read now.
    """
    records = await log.read(topic, partition, after=log.offset_before(offset), limit=1)
    if records and log.sort_key(records[0].offset) == log.sort_key(offset):
        return records[0]
    return None
