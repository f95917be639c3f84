"""A transaction ends at once if its statement is given up, however the server fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from persistence.database.pool import Pool, connect, using
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.fences import owned
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy

_WRITE = "INSERT INTO retired_logs (name, who, why) VALUES ('x', 'me', '-')"
_SOON = 10.0
"""Seconds; a statement may take 30."""


@pytest.fixture
async def proxy(database_url) -> AsyncIterator[FaultProxy]:
    url = httpx.URL(database_url)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        yield proxy


@pytest.fixture
async def pool(database_url, proxy) -> AsyncIterator[Pool]:
    url = httpx.URL(database_url).copy_with(host=proxy.host, port=proxy.port)
    pool = await connect(PersistenceSettings(database_url=str(url)))
    yield pool
    pool.terminate()


async def _in_a_black_hole(proxy: FaultProxy, statement: bytes, work) -> asyncio.Task:
    """Begin the work, and let nothing pass from this statement on."""
    proxy.hold(statement)
    task = asyncio.create_task(work)
    await proxy.held.wait()
    proxy.black_hole()
    proxy.release()
    return task


async def test_one_that_is_cancelled_waits_for_no_answer(pool, proxy):
    taking = await _in_a_black_hole(
        proxy, b"INSERT INTO log_pos", owned(Writer(pool), "redis", 0, 1, "w")
    )
    taking.cancel()
    await asyncio.wait([taking], timeout=_SOON)
    assert taking.cancelled()


async def test_a_probe_has_its_time_limit(pool, proxy):
    async def probe() -> None:
        async with asyncio.timeout(1):
            await Writer(pool).probe()

    probing = await _in_a_black_hole(proxy, b"INSERT INTO fences", probe())
    await asyncio.wait([probing], timeout=_SOON)
    assert probing.done()
    assert isinstance(probing.exception(), TimeoutError)


async def test_one_that_is_cancelled_as_its_connection_is_lost_ends_as_cancelled(pool, proxy):
    async def work() -> None:
        async with using(pool) as connection, connection.transaction():
            await connection.fetchval("SELECT 'held'")

    proxy.hold(b"'held'")
    working = asyncio.create_task(work())
    await proxy.held.wait()
    pool.terminate()
    working.cancel()
    await asyncio.wait([working])
    assert working.cancelled()


async def test_one_that_is_given_up_is_rolled_back(pool, database_pool):
    """Also where the server answers: nothing of it is left, and its locks are free."""

    async def work() -> None:
        async with using(pool) as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO retired_logs (name, who, why) VALUES ('x', 'me', '-')"
            )
            written.set()
            await asyncio.Event().wait()

    written = asyncio.Event()
    working = asyncio.create_task(work())
    await eventually(written.is_set)
    working.cancel()
    await asyncio.wait([working])
    assert working.cancelled()

    async def is_free() -> bool:
        async with database_pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute("LOCK TABLE retired_logs IN ACCESS EXCLUSIVE MODE")
            return not await connection.fetchval("SELECT count(*) FROM retired_logs")

    assert await eventually(is_free)


async def test_a_savepoint_that_is_given_up_leaves_its_transaction(pool, database_pool):
    """A repair goes on with fewer rows at once."""
    async with using(pool) as connection, connection.transaction():
        await connection.execute(_WRITE)
        with pytest.raises(TimeoutError):
            async with connection.transaction():
                await connection.execute("SELECT pg_sleep(30)", timeout=0.1)
    assert await database_pool.fetchval("SELECT count(*) FROM retired_logs") == 1
