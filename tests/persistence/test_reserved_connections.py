"""Connections kept between questions: few, never a broken one, never one whose answer is due."""

from __future__ import annotations

import asyncio

import pytest

from persistence.database.pool import connect
from persistence.errors import TooSlow
from persistence.settings import PersistenceSettings
from persistence.store.reserved_connections import ReservedConnections

_WHO = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
async def pool(database_url):
    pool = await connect(PersistenceSettings(database_url=database_url, database_pool_size=8))
    yield pool
    pool.terminate()


async def _pid(held: ReservedConnections) -> int:
    return (await held.fetch(_WHO, within=5.0))[0]["pid"]


async def test_a_connection_is_kept_for_the_next_question(pool) -> None:
    held = ReservedConnections(pool, most=2)
    first = await _pid(held)
    assert await _pid(held) == first
    assert pool.get_idle_size() == 0
    await held.close()
    assert pool.get_idle_size() == 1


async def test_no_more_are_kept_than_a_quarter_of_the_pool(pool) -> None:
    held = ReservedConnections(pool, most=8)
    pids = await asyncio.gather(*(held.fetch(f"{_WHO}, pg_sleep(0.1)", within=5) for _ in range(6)))
    assert len({rows[0]["pid"] for rows in pids}) == 6
    assert pool.get_size() - pool.get_idle_size() == 2
    await held.close()


async def test_one_that_the_server_ended_is_replaced(pool) -> None:
    held = ReservedConnections(pool, most=2)
    pid = await _pid(held)
    async with pool.acquire() as other:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    assert await _pid(held) not in {pid, 0}
    await held.close()


async def test_one_that_answers_too_late_is_dropped(pool) -> None:
    held = ReservedConnections(pool, most=2)
    pid = await _pid(held)
    with pytest.raises(TooSlow):
        await held.fetch("SELECT pg_sleep(30)", within=0.05)
    assert await _pid(held) != pid
    await held.close()


async def test_one_that_is_lost_as_its_caller_is_cancelled_ends_as_cancelled(pool) -> None:
    held = ReservedConnections(pool, most=2)
    await _pid(held)
    asking = asyncio.create_task(held.fetch("SELECT pg_sleep(30)", within=30))
    await asyncio.sleep(0)  # until it waits for the answer
    pool.terminate()
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
