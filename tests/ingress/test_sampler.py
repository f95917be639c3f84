"""The console's sampler: each viewer sees new samples, whenever it came."""

from __future__ import annotations

import asyncio
import json

import pytest

from ingress.console.sampler import Sampler
from persistence.jobs.table import JobTable
from transport.features.throttling import throttled_lately

INTERVAL = 0.4


@pytest.fixture
async def sampler(database_pool):
    one = Sampler([], database_pool, seen_by="test", interval=INTERVAL, linger=INTERVAL / 2)
    yield one
    await one.close()


async def _next(watching) -> str:
    return json.loads(await asyncio.wait_for(anext(watching), 10 * INTERVAL + 5))["at"]


async def test_who_comes_while_it_is_about_to_end_sees_all_that_follows(sampler):
    first = sampler.follow()
    await _next(first)
    await _next(first)  # just taken: from here on it waits for an interval, longer than it lingers
    await first.aclose()
    second = sampler.follow()
    seen = [await _next(second) for _ in range(3)]
    assert len(set(seen)) == 3
    await second.aclose()


async def test_it_ends_when_nobody_watches_and_begins_again(sampler, eventually):
    for _ in range(2):
        watching = sampler.follow()
        seen = [await _next(watching) for _ in range(2)]
        assert len(set(seen)) == 2
        await watching.aclose()
        assert sampler.is_running
        await eventually(lambda: not sampler.is_running)


async def test_what_processes_say_of_a_quota_is_told(sampler, database_pool):
    throttled = throttled_lately([_Slow("kafka", 9.2), _Slow("kafka.b", 0.0)])
    await database_pool.execute(
        "INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,"
        " consume_from, started_at, throttled) VALUES ('a', 'serve', 'h', 1, '1', '', '', 'kafka',"
        " 'kafka', now(), $1)",
        json.dumps(throttled),
    )
    said = [sentence.text for sentence in (await sampler.status()).health]
    assert [text for text in said if text.startswith("kafka slows down 1 process, as a quota")]


async def test_a_job_that_nobody_works_on_is_told_until_it_is_cancelled(
    sampler, database_pool, eventually
):
    job = await database_pool.fetchval(
        "INSERT INTO jobs (id, kind, state, request, total, started_by, seen_at) VALUES"
        " (gen_random_uuid(), 'redrive', 'running', '{}', 10, 'ann', now() - interval '5 min')"
        " RETURNING id"
    )
    (told,) = (await sampler.status()).health
    assert told.level == "warning"
    assert told.text.startswith("The redrive of ann is stalled at 0 of 10: its process has not")
    assert f"crossfade jobs cancel {job}" in (told.next or "")
    assert await JobTable(database_pool).cancel(job)

    async def is_calm() -> bool:
        return [sentence.level for sentence in (await sampler.status()).health] == ["ok"]

    await eventually(is_calm)


class _Slow:
    """A log that made its process wait."""

    def __init__(self, name, seconds):
        self.name = name
        self.on_throttled = print
        self._seconds = seconds

    def throttled_lately(self):
        return self._seconds
