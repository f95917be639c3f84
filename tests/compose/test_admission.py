"""Overload: messages that come faster than they are persisted are refused before rows are late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio

from persistence.migrate import upgrade
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.keep_alive import keep_alive_load

_MOST = 1.0
_SLOW_ROWS = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END';
CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow();
"""
_LATE = """
SELECT max(created_at - accepted_at)
FROM (SELECT * FROM messages ORDER BY seq DESC LIMIT 100) AS latest
"""


@pytest_asyncio.fixture
async def limited(places) -> dict[str, str]:
    """Settings under which rows may be a second late."""
    return {**places, "INGRESS_MAX_LAG_SECONDS": str(_MOST)}


@asynccontextmanager
async def _serving(tmp_path, settings) -> AsyncIterator[Crossfade]:
    running = await Crossfade.fork("serve", cwd=tmp_path, **settings)
    await running.says("Worker started for partition 15")
    try:
        yield running
        assert await running.terminate() == 0
    finally:
        await running.kill()


@pytest.mark.quiet
async def test_an_overload_is_refused_and_rows_stay_in_time(limited, tmp_path):
    database = await asyncpg.connect(limited["DATABASE_URL"])
    try:
        await database.execute(_SLOW_ROWS)
        async with _serving(tmp_path, limited) as running:
            async with keep_alive_load(int(limited["PORT"]), 16) as load:
                await eventually(lambda: load.statuses[503] > 0)
                await running.says("Overloaded: messages come faster than they are persisted")
                begun = load.statuses[202]
                await eventually(lambda: load.statuses[503] > 2000)
                assert load.statuses[202] > begun  # as many as are persisted
                assert (load.faults, set(load.statuses)) == ([], {202, 503})
                assert load.retry_after
                assert min(load.retry_after) >= 1
                late = await database.fetchval(_LATE)
                assert late.total_seconds() < 5 * _MOST
            async with keep_alive_load(int(limited["PORT"]), 1) as load:  # a trickle
                await eventually(lambda: load.statuses[202] > 10)
            await database.execute("DROP TRIGGER slow ON messages")
            await running.says("No longer overloaded")
    finally:
        await database.close()


async def test_an_outage_of_postgresql_and_the_catching_up_refuse_nothing(
    limited, new_postgres, tmp_path
):
    postgres = await new_postgres()
    url = await postgres.create_database("outage")
    await upgrade(url)
    async with _serving(tmp_path, {**limited, "DATABASE_URL": url}):
        async with keep_alive_load(int(limited["PORT"]), 2) as load:
            await eventually(lambda: load.statuses[202] > 100)
            await postgres.stop()
            await asyncio.sleep(5 * _MOST)  # the fault itself
            await postgres.start()
            sent = load.statuses[202]

            async def caught_up() -> bool:
                connection = await asyncpg.connect(url)
                try:
                    return await connection.fetchval("SELECT count(*) FROM messages") > sent
                finally:
                    await connection.close()

            await eventually(caught_up)
        assert (load.faults, set(load.statuses)) == ([], {202})
