"""Find logs that may hold our messages: in use now, or used before and not known to be drained.

A worker takes the fence of a partition before it persists any record of it, so a consumed log has
rows in ``fences``. With each heartbeat, a process records the log that it writes in the same table,
under an epoch that no owner has. So the name outlives the process. Of a log that was retired these
rows count no more.
"""

from __future__ import annotations

from persistence.database.pool import Connection, Pool, using

__all__ = ["NOTE", "forget_used", "is_used", "note_drained", "used_logs", "was_used"]

NOTE = """
INSERT INTO fences (transport, partition, epoch, owner) VALUES ({transport}, 0, -1, {owner})
ON CONFLICT DO NOTHING
"""
"""Record a log that is written. Its first owner takes the row over (its epoch is at least 0)."""

# Without logs that are only a shadow: their records are copies, and the originals are in a log that
# this query names. The fence of the dead letters (partition -1) is taken in every log. If a worker
# took a partition at the moment of the log's retirement, its fence may come after it.
_LOGS = """
SELECT transport FROM fences
WHERE partition >= 0 AND transport NOT IN (SELECT name FROM retired_logs)
UNION SELECT transport FROM processes UNION SELECT consume_from FROM processes ORDER BY transport
"""

_USED = "SELECT FROM processes WHERE $1 IN (transport, transport_shadow, consume_from)"

_IS_USED = f"SELECT EXISTS ({_USED})"

_FORGET = f"""
WITH used AS (SELECT EXISTS ({_USED}) AS yes),
gone AS (DELETE FROM fences WHERE transport = $1 AND NOT (SELECT yes FROM used))
SELECT NOT yes FROM used
"""  # noqa: S608 - constants only


# Cheap conditions first: positions and messages have no index by name. The first true one ends it.
_WAS_USED = """
SELECT EXISTS (SELECT FROM log_identities WHERE name = $1)
    OR EXISTS (SELECT FROM retired_logs WHERE name = $1)
    OR EXISTS (SELECT FROM fences WHERE transport = $1 AND partition >= 0)
    OR EXISTS (SELECT FROM dead_letters WHERE transport = $1)
    OR EXISTS (SELECT FROM message_positions WHERE transport = $1)
    OR EXISTS (SELECT FROM messages WHERE transport = $1)
"""


async def used_logs(pool: Pool) -> list[str]:
    """Return the names of the logs that processes use, or that may still hold messages.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(_LOGS)
    return [row["transport"] for row in rows]


async def is_used(pool: Pool, transport: str) -> bool:
    """Return whether the settings of any process that may still run name the log.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return bool(await connection.fetchval(_IS_USED, transport))


async def was_used(pool: Pool, transport: str) -> bool:
    """Return whether any stored data names the log: its identity, or rows from it.

    If nothing does, this reads all of ``messages``.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return bool(await connection.fetchval(_WAS_USED, transport))


async def note_drained(pool: Pool, transport: str) -> bool:
    """Record that the log is drained, unless a process still uses it; return whether that was done.

    Its positions are forgotten too: when it is used again, its retention may have passed them, and
    that is no loss. A worker that still owns a partition takes its fence anew.

    Raises:
        Outage: PostgreSQL can't do it now.
    """
    async with using(pool) as connection, connection.transaction():
        is_forgotten = await forget_used(connection, transport)
        if is_forgotten:
            await connection.execute("DELETE FROM log_positions WHERE transport = $1", transport)
    return is_forgotten


async def forget_used(connection: Connection, transport: str) -> bool:
    """Forget that the log was used, unless a process still uses it; return whether it was done.

    Its positions stay: they prove what is settled until the log is removed.
    """
    return bool(await connection.fetchval(_FORGET, transport))
