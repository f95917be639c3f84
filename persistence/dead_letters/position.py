"""The position up to which a log's dead letters are indexed in PostgreSQL.

It moves in the transaction of the rows. So a failover or a restore takes back both or neither, and
the indexer continues from the older position.
"""

from __future__ import annotations

from persistence.database.pool import Connection, Pool, using
from persistence.errors import FenceLost
from persistence.sequences import advance_sequences
from transport.contract import Topic, Transport

__all__ = ["DEAD_LETTERS", "DeadLetterPosition", "all_indexed", "indexed_through"]

DEAD_LETTERS = -1
"""The partition number under which the position of a log's dead letters is stored."""

_READ = """
SELECT through FROM log_positions
WHERE transport = $1 AND partition = $2 AND coalesce(log, $3) = $3
"""
_MOVE = """
WITH moved AS (
    UPDATE log_positions SET through = $3, log = $5
    WHERE transport = $1 AND partition = $2
        AND (CASE WHEN coalesce(log, $5) = $5 THEN through END IS NOT DISTINCT FROM $4
            OR through = $3)
    RETURNING partition
), made AS (
    INSERT INTO log_positions (transport, partition, epoch, through, log)
    SELECT $1, $2, 0, $3, $5
    WHERE $4::text IS NULL
        AND NOT EXISTS (SELECT FROM log_positions WHERE transport = $1 AND partition = $2)
    RETURNING partition
)
SELECT EXISTS (SELECT FROM moved UNION ALL SELECT FROM made)
"""
"""$3 the new position, $4 the one before it, $5 the log's identity. A position of another log is as
none. A statement that is sent again may find its own position."""


async def indexed_through(pool: Pool, log: Transport) -> str | None:
    """Return the offset through which a log's dead letters are indexed; ``None`` if none is.

    Raises:
        Outage: PostgreSQL can't answer now.
        TransportUnavailable: the log can't be asked now.
    """
    identity = await log.identity()
    async with using(pool) as connection:
        through: str | None = await connection.fetchval(_READ, log.name, DEAD_LETTERS, identity)
    return through


async def all_indexed(pool: Pool, log: Transport) -> bool:
    """Return whether every dead letter that a log holds is indexed; raises the same."""
    through = await indexed_through(pool, log)
    return not await log.read(Topic.DEAD_LETTERS, 0, after=through or None, limit=1)


class DeadLetterPosition:
    """The position of one log's dead letters. ``read`` and ``move`` raise ``Outage``."""

    def __init__(self, pool: Pool, transport: str) -> None:
        self._pool = pool
        self._transport = transport
        self._log = ""
        self.through: str | None = None
        """The position that was read or committed last; ``None``: no dead letter is indexed."""

    async def read(self, log: str) -> str | None:
        """Return the offset through which every dead letter is indexed; ``None`` if there is none.

        Args:
            log: The identity of the log, whose offsets can't be compared with those of another.
        """
        async with using(self._pool) as connection:
            await advance_sequences(connection, anew=self.through is None)
            self._log = log
            self.through = await connection.fetchval(_READ, self._transport, DEAD_LETTERS, log)
        return self.through

    async def move(self, through: str) -> None:
        """Move to ``through`` where no row is inserted.

        Raises:
            FenceLost: PostgreSQL is not at the position that was read or committed last.
        """
        async with using(self._pool) as connection:
            await self.move_in(connection, through)
        self.through = through

    async def move_in(self, connection: Connection, through: str) -> None:
        """Move to ``through`` in the caller's transaction; set ``self.through`` once it commits.

        Raises:
            FenceLost: PostgreSQL is not at the position that was read or committed last.
        """
        if not await connection.fetchval(
            _MOVE, self._transport, DEAD_LETTERS, through, self.through, self._log
        ):
            raise FenceLost(
                f"the position of the dead letters of {self._transport} in PostgreSQL is not "
                f"{self.through or 'the beginning'}"
            )
