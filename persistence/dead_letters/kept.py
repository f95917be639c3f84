"""Count the letters of a dead-letter log whose bytes exist nowhere else.

A letter is redriven from its row in PostgreSQL. If it is not indexed yet, or its row has no bytes,
only the log has them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from persistence.database.pool import Pool, using
from persistence.dead_letters.rows import identities_of
from transport.contract import Topic, Transport

__all__ = ["LetterCount", "count_letters"]

_PAGE = 1000

_KEPT = """
SELECT DISTINCT asked.place
FROM unnest($1::bytea[], $2::int[], $3::int[]) AS asked (identity, bytes, place)
JOIN dead_letters USING (identity)
WHERE octet_length(dead_letters.body) = asked.bytes OR dead_letters.error = 'erased'
"""

_PENDING = "SELECT count(*) FROM dead_letters WHERE transport = $1 AND state = 'pending'"


class LetterCount(msgspec.Struct, frozen=True):
    """The letters of one log: ``all`` of them, those in the log ``only``, those ``pending``.

    Pending ones are rows that were neither redriven nor discarded.
    """

    all: int
    only: int
    pending: int


async def count_letters(
    pool: Pool, log: Transport, *, compared: Callable[[int], object] = lambda _: None
) -> LetterCount:
    """Look for the row of each letter that the log holds.

    Args:
        pool: of the database with the rows.
        log: the log.
        compared: called with the number of further letters that were compared.

    Raises:
        Outage: PostgreSQL can't answer now.
        TransportUnavailable: the log can't be read.
    """
    count, kept = 0, 0
    after: str | None = None
    while page := await log.read(Topic.DEAD_LETTERS, 0, after=after, limit=_PAGE):
        asked = [
            (identity, len(record.body), place)
            for place, record in enumerate(page)
            for identity in identities_of(log.name, record)
        ]
        async with using(pool) as connection:
            rows = await connection.fetch(_KEPT, *zip(*asked, strict=True))
        count += len(page)
        kept += len(rows)
        after = page[-1].offset
        compared(len(page))
    async with using(pool) as connection:
        pending = await connection.fetchval(_PENDING, log.name)
    return LetterCount(all=count, only=count - kept, pending=pending)
