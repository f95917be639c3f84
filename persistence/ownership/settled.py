"""How far the partitions of a log are settled, by PostgreSQL's positions.

A log's own group only shows positions: they may be older, and other programs can move them. So
whatever depends on a record being a row or a dead letter asks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from persistence.database.pool import Pool, using
from persistence.store.positions import known_positions
from transport.contract import Topic, Transport

__all__ = ["settled_through", "unsettled"]


async def settled_through(
    pool: Pool, log: Transport, partitions: Sequence[int] | None = None
) -> dict[int, str]:
    """Return the offset through which each partition's messages are rows or dead letters.

    It is empty before the first record. A partition without a position in *this* log is absent:
    nothing of it is known to be settled.

    Args:
        pool: Connections to PostgreSQL.
        log: The log.
        partitions: The partitions; ``None``: all.

    Raises:
        Outage: PostgreSQL can't answer now.
        TransportUnavailable: the log can't be asked now.
    """
    identity = await log.identity()
    asked = range(log.partitions) if partitions is None else partitions
    async with using(pool) as connection:
        known = await known_positions(connection, log.name, asked)
    return {number: at.through for number, at in known.items() if at.log == identity}


async def unsettled(
    pool: Pool, log: Transport, ends: Mapping[int, str | None]
) -> dict[int, str | None]:
    """Return the partitions in which a record up to an end is unsettled, with their positions.

    A partition without a position in this log is among them, unless it is empty.

    Args:
        pool: Connections to PostgreSQL.
        log: The log.
        ends: The offset up to which records count, by partition; ``None`` where there is no record.

    Raises:
        Outage: PostgreSQL can't answer now.
        TransportUnavailable: the log can't be read now.
    """
    key = log.sort_key
    settled = await settled_through(pool, log, list(ends))
    found: dict[int, str | None] = {}
    for partition, end in ends.items():
        through = settled.get(partition)
        if end is None or (through and key(through) >= key(end)):
            continue
        if through is not None:
            # Offsets may have no record: transaction markers, or records that were removed.
            following = await log.read(Topic.MESSAGES, partition, after=through or None, limit=1)
            if not following or key(following[0].offset) > key(end):
                continue
        found[partition] = through
    return found
