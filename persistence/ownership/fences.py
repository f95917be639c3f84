"""The owner of each partition, as rows of the table ``fences``.

Who owns a partition never decides whether its records are stored once and in order: the position
does, because the statement that inserts rows compares it and moves it. An owner only keeps other
processes from doing the same work. So a partition may be taken too early without harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from persistence.database.pool import Connection
from persistence.fleet.processes import LIVE_SECONDS

__all__ = [
    "Ownership",
    "PartitionFence",
    "forget",
    "leave",
    "owners",
    "ownership",
    "release",
    "take",
]

# A process reports the logs that it reads with each heartbeat; PostgreSQL's clock is compared with
# itself only. ``seen_at`` is in the future if that clock was set back.
_OWNERSHIP = """
SELECT readers.members, held.partition, held.epoch, held.owner
FROM (
    SELECT coalesce(array_agg(member), '{}') AS members FROM processes
    WHERE owned ? $1 AND abs(extract(epoch FROM now() - seen_at)) <= $3
) AS readers
LEFT JOIN fences AS held ON held.transport = $1 AND held.partition = ANY($2::int[])
"""
_OWNERS = """
SELECT transport, partition, owner FROM fences WHERE partition >= 0 AND epoch >= 0 AND owner <> ''
"""
_TAKE = """
INSERT INTO fences AS held (transport, partition, epoch, owner) VALUES ($1, $2, 1, $3)
ON CONFLICT (transport, partition) DO UPDATE
SET epoch = held.epoch + 1, owner = excluded.owner, taken_at = now()
WHERE held.epoch = $4
RETURNING epoch
"""
_RELEASE = """
UPDATE fences SET owner = '' FROM unnest($2::int[], $3::bigint[]) AS ours (partition, epoch)
WHERE transport = $1 AND fences.partition = ours.partition AND fences.epoch = ours.epoch
"""

_LEAVE = "UPDATE processes SET owned = owned - $1 WHERE member = $2"
_FORGET = """
DELETE FROM fences USING unnest($2::int[], $3::bigint[]) AS ours (partition, epoch)
WHERE transport = $1 AND fences.partition = ours.partition AND fences.epoch = ours.epoch
"""


class PartitionFence(msgspec.Struct, frozen=True):
    """The owner of a partition: empty after it gave the partition back.

    ``epoch`` rises by one with every owner.
    """

    epoch: int
    owner: str


class Ownership(msgspec.Struct, frozen=True):
    """The live processes that read a log, and the fence of each partition that ever had one."""

    readers: Sequence[str]
    fences: Mapping[int, PartitionFence]


async def ownership(connection: Connection, transport: str, partitions: Sequence[int]) -> Ownership:
    """Return who reads a log, and who owns each of ``partitions``."""
    rows = await connection.fetch(_OWNERSHIP, transport, partitions, LIVE_SECONDS)
    return Ownership(
        rows[0]["members"],
        {
            row["partition"]: PartitionFence(row["epoch"], row["owner"])
            for row in rows
            if row["partition"] is not None
        },
    )


async def owners(connection: Connection) -> dict[str, dict[int, str]]:
    """Return the process that owns each partition of the messages, by log.

    A process that died stays its partitions' owner until another one takes them.
    """
    found: dict[str, dict[int, str]] = {}
    for row in await connection.fetch(_OWNERS):
        found.setdefault(row["transport"], {})[row["partition"]] = row["owner"]
    return found


async def take(
    connection: Connection,
    transport: str,
    partition: int,
    owner: str,
    *,
    seen: PartitionFence | None,
) -> int | None:
    """Take a partition from the owner that was ``seen``.

    Returns:
        The new epoch; ``None`` if another process was faster.
    """
    epoch: int | None = await connection.fetchval(
        _TAKE, transport, partition, owner, None if seen is None else seen.epoch
    )
    return epoch


async def release(connection: Connection, transport: str, epochs: Mapping[int, int]) -> None:
    """Give partitions back, so that others may take them at once.

    Args:
        connection: The connection.
        transport: The log.
        epochs: The epoch of the owner that gives back, by partition. A partition that has a newer
            owner stays that owner's.
    """
    await connection.execute(_RELEASE, transport, list(epochs), list(epochs.values()))


async def leave(connection: Connection, transport: str, member: str) -> None:
    """Take no share of a log any more. The process's next heartbeat has to agree."""
    await connection.execute(_LEAVE, transport, member)


async def forget(connection: Connection, transport: str, epochs: Mapping[int, int]) -> None:
    """Remove the rows of partitions that are given back, of a log that no process uses."""
    await connection.execute(_FORGET, transport, list(epochs), list(epochs.values()))
