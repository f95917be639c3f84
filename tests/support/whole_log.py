"""Reads a whole partition by several reads: one read of a log returns a limited number of bytes."""

from __future__ import annotations

from transport.contract import Record, Topic, Transport

__all__ = ["records_of"]


async def records_of(log: Transport, partition: int) -> list[Record]:
    """Return every message of a partition that the log still has, in order."""
    found: list[Record] = []
    while some := await log.read(
        Topic.MESSAGES, partition, after=found[-1].offset if found else None
    ):
        found += some
    return found
