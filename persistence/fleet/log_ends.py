"""The last record of each partition that any process knew, kept outside the log.

A log that went back to before records that it had confirmed is consistent in itself, and all
processes that knew those records may have ended. So processes store here the last records that they
know to exist, and read those of others. The key is the log's identity, not its name: another log
under the same name has other records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from persistence.database.pool import Pool, using

__all__ = ["End", "known_ends", "note_ends"]

_KNOWN = "SELECT partition, at FROM log_ends WHERE identity = $1"

# Replaces only the record that was looked for: another one may be known by now, and be gone. The
# rows are locked in order, so two processes never deadlock.
_NOTE = """
WITH told AS (
    SELECT * FROM unnest($2::int[], $3::bytea[], $4::text[], $5::text[])
        AS told (partition, sort_key, at, instead_of)
), held AS MATERIALIZED (
    SELECT partition FROM log_ends WHERE identity = $1 AND partition = ANY($2)
    ORDER BY partition FOR UPDATE
), moved AS (
    UPDATE log_ends SET sort_key = told.sort_key, at = told.at
    FROM told JOIN held USING (partition)
    WHERE log_ends.identity = $1 AND log_ends.partition = told.partition
        AND log_ends.at = told.instead_of AND log_ends.sort_key < told.sort_key
)
INSERT INTO log_ends (identity, partition, sort_key, at)
SELECT $1, partition, sort_key, at FROM told WHERE instead_of IS NULL ORDER BY partition
ON CONFLICT DO NOTHING
"""


class End(NamedTuple):
    """The last record of a partition that a process knew.

    ``instead_of`` is the offset that it replaces; ``None``: none was known.
    """

    partition: int
    sort_key: bytes
    offset: str
    instead_of: str | None


async def known_ends(pool: Pool, identity: str, *, within: float) -> dict[int, str]:
    """Return the offset of the last known record of the log ``identity``, by partition.

    Raises:
        Outage: PostgreSQL can't answer within ``within`` seconds.
    """
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(_KNOWN, identity, timeout=within)
    return {row["partition"]: row["at"] for row in rows}


async def note_ends(pool: Pool, identity: str, ends: Sequence[End], *, within: float) -> None:
    """Store the last known records of the log ``identity``, unless another process did meanwhile.

    Raises:
        Outage: PostgreSQL can't do it within ``within`` seconds.
    """
    columns = list(zip(*ends, strict=True))
    async with using(pool, within=within) as connection:
        await connection.execute(_NOTE, identity, *map(list, columns), timeout=within)
