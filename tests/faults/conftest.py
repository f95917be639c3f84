"""Each fault test has servers of its own: it stops and kills them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from persistence.migrate import upgrade
from tests.faults.logs import FaultyLog, RedisLog
from tests.faults.stand import Stand

_DATABASE = "faults"


@pytest_asyncio.fixture(scope="session")
async def migrated_data(
    initialized_postgres: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A data folder with a migrated database, to copy for each test."""
    data_dir = tmp_path_factory.mktemp("migrated") / "data"
    shutil.copytree(initialized_postgres, data_dir)
    server = PostgresServer(data_dir)
    await server.start()
    try:
        await upgrade(await server.create_database(_DATABASE))
    finally:
        await server.stop()
    return data_dir


@pytest_asyncio.fixture
async def postgres(tmp_path: Path, migrated_data: Path) -> AsyncIterator[PostgresServer]:
    """A PostgreSQL of the test's own."""
    data_dir = tmp_path / "postgres" / "data"
    shutil.copytree(migrated_data, data_dir)
    server = PostgresServer(data_dir)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(params=["redis"])
async def log(
    request: pytest.FixtureRequest,
    new_redis: Callable[..., Awaitable[ValkeyServer]],
) -> FaultyLog:
    """A broker of the test's own, one parameter for each transport."""
    assert request.param == "redis"
    return RedisLog(await new_redis())


@pytest_asyncio.fixture
async def stand(log: FaultyLog, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Stand]:
    """Everything together. Its processes are stopped before its servers."""
    folder = tmp_path / "services"
    async with AsyncExitStack() as stack:
        made = Stand(log, postgres, postgres.url_of(_DATABASE), folder, stack)
        yield made
        await made.stop()
