"""The first records of a partition, read as a worker reads them."""

from __future__ import annotations

import asyncio

from transport.contract import Record, Topic, Transport

__all__ = ["first_records"]


async def first_records(
    log: Transport,
    count: int,
    *,
    partition: int = 0,
    after: str | None = None,
    patience: float = 30.0,
) -> list[Record]:
    """Return ``count`` records of the messages after an offset, by reads that wait for them."""
    found: list[Record] = []
    async with asyncio.timeout(patience):
        while len(found) < count:
            position = found[-1].offset if found else after
            found += await log.read(
                Topic.MESSAGES, partition, after=position, limit=count - len(found), wait=patience
            )
    return found
