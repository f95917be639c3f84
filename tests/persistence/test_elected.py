"""The lock of an elected process ends with its connection, and never takes the process along."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import asyncpg
import httpx
import pytest

from persistence.database.pool import connect, using
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected, is_held
from persistence.settings import PersistenceSettings
from persistence.store.reserved_connections import ReservedConnections
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy


async def test_a_cut_connection_ends_the_lock_and_nothing_else(database_url, database_pool):
    url = httpx.URL(database_url)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        cut_off = await connect(
            PersistenceSettings(database_url=str(url.copy_with(host=proxy.host, port=proxy.port)))
        )
        with pytest.raises(Outage, match="what the block met"):
            async with elected(cut_off, "test") as connection:
                assert connection is not None
                proxy.reset()
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await connection.fetchval("SELECT 1")
                raise Outage("what the block met")
        cut_off.terminate()

    async def another_has_it() -> bool:
        async with elected(database_pool, "test") as connection:
            return connection is not None

    await eventually(another_has_it)


async def test_a_cancelled_election_leaves_no_lock(database_pool):
    """PostgreSQL may grant the lock when nobody waits for it any more."""

    async def elect() -> None:
        async with elected(database_pool, "test"):
            pass

    for steps in range(20):  # of the event loop: before, while and after PostgreSQL is asked
        await database_pool.fetchval("SELECT 1")  # there is a free connection
        election = asyncio.create_task(elect())
        for _ in range(steps):
            await asyncio.sleep(0)
        election.cancel()
        await asyncio.wait([election])

    async def is_free() -> bool:
        return not await database_pool.fetchval("SELECT " + is_held("'test'"))

    await eventually(is_free)


async def test_a_process_cancelled_while_it_lets_go_leaves_no_lock(database_url, database_pool):
    """The statement that lets go is prepared first, and is then never executed."""
    url = httpx.URL(database_url)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        pool = await connect(
            PersistenceSettings(database_url=str(url.copy_with(host=proxy.host, port=proxy.port)))
        )

        async def elect() -> None:
            async with elected(pool, "test") as connection:
                assert connection is not None
                proxy.hold(b"pg_advisory_unlock")

        election = asyncio.create_task(elect())
        await proxy.held.wait()
        election.cancel()
        await asyncio.sleep(0)  # the election meets its end before an answer comes
        proxy.release()
        await asyncio.wait([election])
        assert election.cancelled()

        async def another_has_it() -> bool:
            async with elected(database_pool, "test") as connection:
                return connection is not None

        await eventually(another_has_it)
        pool.terminate()


@pytest.mark.parametrize("statement", [b"pg_try_advisory_lock", b"pg_advisory_unlock"])
async def test_a_process_that_loses_its_connection_as_it_is_cancelled_ends(database_url, statement):
    """Otherwise it would go on: the error of a connection that is gone took its place."""
    url = httpx.URL(database_url)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        pool = await connect(
            PersistenceSettings(database_url=str(url.copy_with(host=proxy.host, port=proxy.port)))
        )

        async def elect() -> None:
            async with elected(pool, "test"):
                pass

        proxy.hold(statement)
        election = asyncio.create_task(elect())
        await proxy.held.wait()
        pool.terminate()
        election.cancel()
        await asyncio.wait([election])
        assert election.cancelled()


async def test_the_smallest_pool_has_a_connection_left_beside_all_locks(database_url):
    """Who holds a lock needs another connection for the work, and waits for it."""
    size = PersistenceSettings.model_fields["database_pool_size"].metadata[0].ge
    pool = await connect(PersistenceSettings(database_url=database_url, database_pool_size=size))
    reserved = ReservedConnections(pool, most=64)  # the ingress's, for its look-ups
    async with AsyncExitStack() as held:
        await reserved.fetch("SELECT 1", within=5)
        for what in ("parity", "housekeeping", "rows archive", "jobs"):
            assert await held.enter_async_context(elected(pool, what))
        async with using(pool, within=5) as connection:
            assert await connection.fetchval("SELECT 1")
        await reserved.close()
    await pool.close()
