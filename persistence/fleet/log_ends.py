"""The last record of each partition that any process was told of, kept where no log loses it.

A log that went back to before what it had confirmed is consistent in itself, and its processes may
all have ended since. So they tell here what they know to be there, and each is told what others
knew. Under the log's identity and not its name: another log under the name has other records.
"""

from __future__ import annotations

from collections.abc import Mapping

from persistence.database.pool import Pool, using

__all__ = ["exchange_ends"]

# What is told stands in the table from the next call on: a statement sees none of its own inserts.
_EXCHANGE = """
WITH told AS (
    INSERT INTO log_ends (identity, partition, sort_key, at)
    SELECT $1, * FROM unnest($2::int[], $3::bytea[], $4::text[])
    ON CONFLICT (identity, partition) DO UPDATE SET sort_key = excluded.sort_key, at = excluded.at
    WHERE log_ends.sort_key < excluded.sort_key
)
SELECT partition, at FROM log_ends WHERE identity = $1
"""


async def exchange_ends(
    pool: Pool, identity: str, ends: Mapping[int, tuple[bytes, str]], *, within: float
) -> dict[int, str]:
    """Note sort key and offset of the last known record by partition; return what was known.

    Args:
        pool: Of PostgreSQL.
        identity: That of the log.
        ends: Those that may be later than what is noted.
        within: Seconds.

    Raises:
        Outage: PostgreSQL can't do it now.
    """
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(
            _EXCHANGE,
            identity,
            list(ends),
            [key for key, _ in ends.values()],
            [offset for _, offset in ends.values()],
            timeout=within,
        )
    return {row["partition"]: row["at"] for row in rows}
