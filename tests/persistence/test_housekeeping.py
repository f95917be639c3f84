"""What is old is deleted, all of it, a little at a time, and nothing that is not."""

from __future__ import annotations

import asyncio

import pytest

from persistence.housekeeping import Housekeeper

_ATTEMPTS = """
INSERT INTO delivery_attempts
    (message_id, kind, transport, partition, log_offset, attempt, failed_at, error, worker)
SELECT gen_random_uuid(), 'message', 'redis', 0, n || '-0', 1, now() - make_interval(days => $1),
    'refused', 'w' FROM generate_series(1, $2) AS n
"""
_REPORTS = """
INSERT INTO parity_reports (id, kind, primary_log, shadow_log, since, until, counts, lag, samples,
    verdict, compared, made_by)
SELECT gen_random_uuid(), 'running', 'redis', 'kafka', NULL, now() - make_interval(days => $1),
    '{}', '[]', '[]', 'equal', 0, 'k' FROM generate_series(1, $2)
"""


# Notes how many rows each statement deleted.
_NOTED = """
CREATE TABLE deletions (rows bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO deletions SELECT count(*) FROM gone; RETURN NULL; END $$;
CREATE TRIGGER noted AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION note();
"""


@pytest.mark.parametrize(
    ("table", "fill"), [("delivery_attempts", _ATTEMPTS), ("parity_reports", _REPORTS)]
)
async def test_what_is_old_goes_in_batches_and_what_is_young_stays(
    database_pool, eventually, table: str, fill: str
):
    await database_pool.execute(_NOTED.format(table=table))
    for days, rows in ((15, 7), (13, 3)):
        await database_pool.execute(fill, days, rows)

    async def swept() -> bool:
        deleted = await database_pool.fetch("SELECT rows FROM deletions WHERE rows > 0")
        return sum(row["rows"] for row in deleted) >= 7

    stop = asyncio.Event()
    # Two processes, of which one at a time keeps house.
    housekeepers = [
        asyncio.create_task(Housekeeper(database_pool, interval=0, at_once=2).run(stop))
        for _ in range(2)
    ]
    await eventually(swept)
    stop.set()
    await asyncio.gather(*housekeepers)
    assert await database_pool.fetchval(f"SELECT count(*) FROM {table}") == 3
    assert await database_pool.fetchval("SELECT max(rows) FROM deletions") == 2
