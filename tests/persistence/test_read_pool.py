"""The pool of the read server: a read that is given up costs no later one its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from persistence.database.pool import connect, using
from persistence.database.read_pool import ReadPool
from persistence.errors import Outage
from persistence.settings import PersistenceSettings
from tests.support.fault_proxy import FaultProxy


@pytest.fixture
async def proxy(database_url) -> AsyncIterator[FaultProxy]:
    url = httpx.URL(database_url)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        yield proxy


@pytest.fixture
async def reads(database_url, database_pool, proxy) -> AsyncIterator[ReadPool]:
    """The server of the rows, as a standby behind a proxy."""
    url = httpx.URL(database_url).copy_with(host=proxy.host, port=proxy.port)
    pool = await connect(PersistenceSettings(database_url=str(url)))
    yield ReadPool(pool, database_pool)
    pool.terminate()


async def test_a_cancelled_read_ends_as_cancelled(reads, proxy):
    proxy.hold(b"'held'")

    async def read() -> None:
        async with using(reads.pool) as connection:
            await connection.fetchval("SELECT 'held'")

    reading = asyncio.create_task(read())
    await proxy.held.wait()
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()


async def test_one_read_finds_out_that_the_server_is_silent(reads, proxy):
    """Without an answer from one connection, the other idle ones are not tried."""
    async with AsyncExitStack() as used:
        for _ in range(4):
            await used.enter_async_context(using(reads.pool))
    proxy.black_hole()

    async def read() -> str:
        async with using(reads.pool) as connection:
            answer: str = await connection.fetchval("SELECT 'read'", timeout=1)
            return answer

    with pytest.raises(Outage):
        await read()
    assert await read() == "read"  # from the primary
