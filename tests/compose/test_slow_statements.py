"""Statements that are slow whatever is in them: batches stay large, and workers keep up."""

from __future__ import annotations

import asyncpg
import httpx

from tests.ingress.conftest import message
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually

_BATCHES, _EACH = 5, 1000
_SLOW_STATEMENTS = """
CREATE TABLE statements (at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO statements DEFAULT VALUES; PERFORM pg_sleep(0.3); RETURN NULL; END';
CREATE TRIGGER slow AFTER INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""


async def test_slow_statements_do_not_make_batches_small(places, tmp_path):
    """As slow as where the ingress leaves workers no time: 10 records a statement take minutes."""
    database = await asyncpg.connect(places["DATABASE_URL"])
    await database.execute(_SLOW_STATEMENTS)
    running = await Crossfade.fork("serve", cwd=tmp_path, **places, STREAM_PARTITIONS="1")
    try:
        await running.says("Worker started for partition 0")
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            for batch in range(_BATCHES):
                numbers = range(batch * _EACH, (batch + 1) * _EACH)
                answer = await client.post(
                    f"http://127.0.0.1:{places['PORT']}/api/messages:batch",
                    json=[message(number) for number in numbers],
                )
                assert answer.status_code == 207

        async def persisted() -> bool:
            return await database.fetchval("SELECT count(*) FROM messages") == _BATCHES * _EACH

        await eventually(persisted)
        assert await database.fetchval("SELECT count(*) FROM statements") < 40
        assert await running.terminate() == 0
    finally:
        await running.kill()
        await database.close()
