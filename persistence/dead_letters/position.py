"""The position up to which a log's dead letters are indexed in PostgreSQL.

It is stored after the rows, so it is never ahead of them; a failover or a restore takes back both.
"""

from __future__ import annotations

from persistence.database.pool import Pool, using

__all__ = ["LETTERS", "LetterPosition"]

LETTERS = -1
"""The partition number under which the position of a log's dead letters is stored."""

_KNOWN = "SELECT through FROM log_positions WHERE transport = $1 AND partition = $2"
_NOTE = """
WITH moved AS (
    UPDATE log_positions SET through = $3 WHERE transport = $1 AND partition = $2
    RETURNING partition
)
INSERT INTO log_positions (transport, partition, epoch, through)
SELECT $1, $2, 0, $3 WHERE NOT EXISTS (SELECT FROM moved)
"""


class LetterPosition:
    """The position of one log's dead letters. Every method raises ``Outage``."""

    def __init__(self, pool: Pool, transport: str) -> None:
        self._pool = pool
        self._transport = transport

    async def known(self) -> str | None:
        """Return the offset through which all letters are indexed; ``None`` if it is not known."""
        async with using(self._pool) as connection:
            through: str | None = await connection.fetchval(_KNOWN, self._transport, LETTERS)
        return through

    async def note(self, through: str) -> None:
        """Record that all letters through an offset are indexed."""
        async with using(self._pool) as connection:
            await connection.execute(_NOTE, self._transport, LETTERS, through)
