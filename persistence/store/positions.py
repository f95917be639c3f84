"""Read and write positions when no row is inserted; an insert moves them itself.

An update of a position waits for a statement that has the position's row locked. A statement that
waited for an update inserts nothing if the epoch or the position has changed. See
``persistence.tables.positions``.
"""

from __future__ import annotations

from collections.abc import Sequence

from persistence.database.pool import Connection

__all__ = [
    "Place",
    "forget_position",
    "known_positions",
    "log_of_position",
    "move_position",
    "note_standby",
    "noted_by_standby",
    "set_position",
    "take_noted",
    "take_position",
]

Place = str
"""The current location of a row in PostgreSQL: the text of its ``ctid``."""

_TAKE = """
UPDATE log_positions SET
    epoch = $3, log = coalesce($5, log), through = CASE
        WHEN epoch < $4::bigint THEN NULL WHEN log <> $5 THEN $6 ELSE through
    END
WHERE transport = $1 AND partition = $2
RETURNING through, ctid::text AS place
"""
_NEW = """
INSERT INTO log_positions (transport, partition, epoch, log) VALUES ($1, $2, $3, $4)
RETURNING through, ctid::text AS place
"""
_LOG = "SELECT log FROM log_positions WHERE transport = $1 AND partition = $2"
_KNOWN = """
SELECT partition, through FROM log_positions
WHERE transport = $1 AND partition = ANY($2::int[])
"""
_MOVE = """
UPDATE log_positions SET through = $4
WHERE transport = $1 AND partition = $2 AND epoch = $3
    AND ($5::text IS NULL OR through = $5 OR through = $4)
RETURNING ctid::text AS place
"""
_FORGET = """
UPDATE log_positions SET through = NULL WHERE transport = $1 AND partition = $2 AND epoch <= $3
"""
_SET = """
UPDATE log_positions SET through = $3 WHERE transport = $1 AND partition = $2 AND through = $4
RETURNING true
"""

_NOTE = """
INSERT INTO standby_positions (transport, partition, through, log) VALUES ($1, $2, $3, $4)
ON CONFLICT (transport, partition) DO UPDATE SET through = excluded.through, log = excluded.log
"""
_NOTED = """
SELECT through FROM standby_positions WHERE transport = $1 AND partition = $2 AND log = $3
"""
_TAKE_NOTED = """
DELETE FROM standby_positions WHERE transport = $1 AND partition = $2
RETURNING CASE WHEN log = $3 THEN through END
"""


async def take_position(
    connection: Connection,
    transport: str,
    partition: int,
    epoch: int,
    *,
    before: int | None,
    log: str | None = None,
    restart: str | None = None,
) -> tuple[str | None, Place]:
    """Give a partition's position to the owner with ``epoch``; return it, and its row's place.

    The caller has the partition's row of ``fences`` locked, so nobody else inserts the first
    position at the same time.

    ``before`` is the epoch of the owner before, by ``fences``. If the position's is lower, that
    owner was of a release that keeps no positions: it inserted rows and left the position behind
    them. So the position is unknown.

    ``log`` is the identity of the owner's log, if it is known. A position in another log becomes
    ``restart``.
    """
    taken = await connection.fetchrow(_TAKE, transport, partition, epoch, before, log, restart)
    if taken is None:
        taken = await connection.fetchrow(_NEW, transport, partition, epoch, log)
    assert taken is not None
    return taken["through"], taken["place"]


async def log_of_position(connection: Connection, transport: str, partition: int) -> str | None:
    """Return the identity of the log that a position is in; ``None`` if it is not known."""
    log: str | None = await connection.fetchval(_LOG, transport, partition)
    return log


async def known_positions(
    connection: Connection, transport: str, partitions: Sequence[int]
) -> dict[int, str | None]:
    """Return the position of each partition that has a row; ``None`` if it is unknown."""
    rows = await connection.fetch(_KNOWN, transport, partitions)
    return {row["partition"]: row["through"] for row in rows}


async def move_position(
    connection: Connection,
    transport: str,
    partition: int,
    epoch: int,
    *,
    through: str,
    before: str | None,
) -> Place | None:
    """Move a position from ``before`` to ``through``; return its row's place.

    If ``before`` is ``None``, the position may be anywhere. Returns ``None`` if the position is
    elsewhere, or if another owner has it.
    """
    place: Place | None = await connection.fetchval(
        _MOVE, transport, partition, epoch, through, before
    )
    return place


async def forget_position(
    connection: Connection, transport: str, partition: int, epoch: int
) -> None:
    """Set a partition's position to unknown, unless an owner with a higher epoch has it."""
    await connection.execute(_FORGET, transport, partition, epoch)


async def note_standby(
    connection: Connection, transport: str, partition: int, through: str, log: str
) -> None:
    """Note that a standby acknowledged through an offset of the log with the identity ``log``."""
    await connection.execute(_NOTE, transport, partition, through, log)


async def noted_by_standby(
    connection: Connection, transport: str, partition: int, log: str
) -> str | None:
    """Return what a standby noted of the log with the identity ``log``; ``None`` if nothing."""
    noted: str | None = await connection.fetchval(_NOTED, transport, partition, log)
    return noted


async def take_noted(
    connection: Connection, transport: str, partition: int, log: str | None
) -> str | None:
    """Take away what a standby noted, and return it; ``None`` if it is of another log."""
    noted: str | None = await connection.fetchval(_TAKE_NOTED, transport, partition, log)
    return noted


async def set_position(
    connection: Connection, transport: str, partition: int, through: str | None, *, before: str
) -> bool:
    """Set a position that is at ``before``, for any owner; return whether it was there."""
    return bool(await connection.fetchval(_SET, transport, partition, through, before))
