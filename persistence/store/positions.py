"""Read and write positions when no row is inserted; an insert moves them itself.

An update of a position waits for a statement that has the position's row locked. A statement that
waited for an update inserts nothing if the epoch or the position has changed. See
``persistence.tables.positions``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from persistence.database.pool import Connection

__all__ = [
    "KnownPosition",
    "Opened",
    "Place",
    "known_positions",
    "move_position",
    "open_position",
]

Place = str
"""The current location of a row in PostgreSQL: the text of its ``ctid``."""

_OPEN = """
UPDATE log_positions SET
    epoch = $3, through = CASE WHEN log = $4 THEN through ELSE '' END, log = $4
WHERE transport = $1 AND partition = $2
RETURNING through, ctid::text AS place
"""
_FIRST = """
INSERT INTO log_positions (transport, partition, epoch, log, through) VALUES ($1, $2, $3, $4, '')
RETURNING through, ctid::text AS place
"""
_KNOWN = """
SELECT partition, through, log FROM log_positions
WHERE transport = $1 AND partition = ANY($2::int[])
"""
_MOVE = """
UPDATE log_positions SET through = $4
WHERE transport = $1 AND partition = $2 AND epoch = $3 AND through IN ($4, $5)
    AND ctid = $6::text::tid
RETURNING ctid::text AS place
"""


class Opened(NamedTuple):
    """A position that was given to an owner, and the place of its row.

    ``is_new`` is true if PostgreSQL knew no position in the owner's log.
    """

    through: str
    place: Place
    is_new: bool


class KnownPosition(NamedTuple):
    """A position, and the identity of the log that it is an offset of."""

    through: str
    log: str


async def open_position(
    connection: Connection, transport: str, partition: int, epoch: int, log: str
) -> Opened:
    """Give a partition's position to the owner with ``epoch``, of the log with this identity.

    The caller has the partition's row of ``fences`` locked. So nobody else inserts the first
    position at the same time.
    """
    known = (await known_positions(connection, transport, [partition])).get(partition)
    opened = await connection.fetchrow(
        _FIRST if known is None else _OPEN, transport, partition, epoch, log
    )
    assert opened is not None
    is_new = known is None or known.log != log
    return Opened(opened["through"], opened["place"], is_new=is_new)


async def known_positions(
    connection: Connection, transport: str, partitions: Sequence[int]
) -> dict[int, KnownPosition]:
    """Return the position of each partition that has one."""
    rows = await connection.fetch(_KNOWN, transport, partitions)
    return {row["partition"]: KnownPosition(row["through"], row["log"]) for row in rows}


async def move_position(
    connection: Connection,
    transport: str,
    partition: int,
    epoch: int,
    *,
    through: str,
    before: str,
    at: Place,
) -> Place | None:
    """Move a position from ``before`` to ``through``; return its row's place.

    Returns ``None`` if the position is elsewhere, or its row is not at ``at``, or another owner has
    it. Each statement changes the place: so PostgreSQL has all of this owner's statements, also
    after a failover.
    """
    place: Place | None = await connection.fetchval(
        _MOVE, transport, partition, epoch, through, before, at
    )
    return place
