"""A PostgreSQL whose clock is set ahead and back by an hour, under load."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from compose.local.postgres import PostgresServer
from persistence.migrate import upgrade
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.eventually import eventually
from tests.support.stepped_clock import SteppedClock

HOUR = 3600


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    """The clock of ``postgres``."""
    return SteppedClock(tmp_path / "clock")


@pytest_asyncio.fixture
async def postgres(
    initialized_postgres: Path, tmp_path: Path, clock: SteppedClock
) -> AsyncIterator[PostgresServer]:
    """A server on ``clock``, with an empty database called ``crossfade``."""
    data = tmp_path / "postgres" / "data"
    shutil.copytree(initialized_postgres, data)
    server = PostgresServer(data)
    server.environment.update(clock.environment())
    await server.start()
    await server.create_database("crossfade")
    yield server
    await server.stop()


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_nothing_is_lost_or_reordered_while_postgresqls_clock_is_set(
    postgres: PostgresServer, new_redis: Any, clock: SteppedClock, tmp_path: Path, step: int
) -> None:
    url = postgres.url_of("crossfade")
    await upgrade(url)
    log = RedisLog(await new_redis())
    async with Deployment.on(log, postgres, url, tmp_path / "services") as deployment:
        (ingress, *_), _ = await deployment.run(ingresses=2, workers=2)
        async with deployment.load([ingress]) as load:
            await load.goes_on(60)
            clock.step(step)
            assert abs(await _ahead(url) - step) < HOUR / 2, "or nothing is shown"
            await load.goes_on(100)
            clock.step(0)
            await load.goes_on(60)
        await deployment.assert_promises_held()
        async with httpx.AsyncClient(base_url=ingress.url, timeout=30) as client:

            async def is_calm() -> bool:
                status = (await client.get("/api/console/status")).json()
                assert all(process["live"] for process in status["processes"]), status
                assert [it["level"] for it in status["health"]] == ["ok"], status["health"]
                return True

            await eventually(is_calm)
            assert (await client.get("/readyz")).json()["status"] == "ready"


async def _ahead(url: str) -> float:
    """Return the seconds by which the server's clock is ahead of this machine's."""
    connection = await asyncpg.connect(url)
    try:
        asked = "SELECT extract(epoch FROM clock_timestamp())::float8"
        return float(await connection.fetchval(asked)) - time.time()
    finally:
        await connection.close()
