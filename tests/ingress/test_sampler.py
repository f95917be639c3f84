"""The console's sampler: each viewer sees new samples, whenever it came."""

from __future__ import annotations

import asyncio
import json

import pytest

from ingress.console.sampler import Sampler

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
