"""The lock of an elected process ends with its connection, and never takes the process along."""

from __future__ import annotations

from contextlib import suppress

import asyncpg
import httpx
import pytest

from persistence.database.pool import connect
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected
from persistence.settings import PersistenceSettings
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
