"""Owners of partitions, as tests of the writer need them: without a process, of any epoch."""

from __future__ import annotations

from persistence.store.batch import Fence
from persistence.store.writer import Writer

__all__ = ["OWN", "owned"]

OWN = """
INSERT INTO fences (transport, partition, epoch, owner) VALUES ($1, $2, $3, $4)
ON CONFLICT (transport, partition) DO UPDATE SET
    epoch = greatest(fences.epoch, excluded.epoch), owner = excluded.owner
"""


async def owned(
    writer: Writer, transport: str, partition: int, epoch: int, owner: str, *, log: str = "log"
) -> Fence:
    """Make a process the owner of a partition, and give it the position.

    Raises:
        FenceLost: an owner has a higher epoch.
    """
    async with writer.connection() as connection:
        await connection.execute(OWN, transport, partition, epoch, owner)
    opened = await writer.open(transport, partition, epoch, log)
    return Fence(transport, partition, epoch, opened.through, opened.place)
