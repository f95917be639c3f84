"""Fixtures of the fault tests: each has servers of its own to stop and kill; Kafka is shared."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from tests.faults.both_logs import BothLogs, BothLogsDeployment
from tests.faults.deployment import Deployment
from tests.faults.kafka_log import KafkaLog
from tests.faults.logs import FaultyLog, RedisLog
from tests.support.kafka import KafkaNode
from tests.support.postgres_pair import DATABASE


@pytest_asyncio.fixture
async def postgres(tmp_path: Path, migrated_postgres: Path) -> AsyncIterator[PostgresServer]:
    """A PostgreSQL of the test's own."""
    data_dir = tmp_path / "postgres" / "data"
    shutil.copytree(migrated_postgres, data_dir)
    server = PostgresServer(data_dir)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def redis_log(new_redis: Callable[..., Awaitable[ValkeyServer]]) -> RedisLog:
    """A Redis of the test's own."""
    return RedisLog(await new_redis())


@pytest.fixture
def kafka_log(kafka_server: KafkaNode) -> KafkaLog:
    """The shared Kafka, with topics of the test's own."""
    return KafkaLog(kafka_server)


# Kafka takes minutes more: `make chaos` runs it.
@pytest.fixture(
    params=["redis", pytest.param("kafka", marks=[pytest.mark.chaos, pytest.mark.timeout(300)])]
)
def log(request: pytest.FixtureRequest) -> FaultyLog:
    """A broker that can be hurt, one parameter for each transport."""
    made: FaultyLog = request.getfixturevalue(f"{request.param}_log")
    return made


@pytest_asyncio.fixture
async def deployment(
    log: FaultyLog, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Deployment]:
    """Everything together. Its processes are stopped before its servers."""
    url = postgres.url_of(DATABASE)
    async with Deployment.on(log, postgres, url, tmp_path / "services") as made:
        yield made


@pytest_asyncio.fixture
async def both_logs(
    redis_log: RedisLog, kafka_log: KafkaLog, postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[BothLogsDeployment]:
    """Everything together, with Redis and Kafka at once."""
    url = postgres.url_of(DATABASE)
    logs = BothLogs(redis_log, kafka_log)
    async with BothLogsDeployment.on(logs, postgres, url, tmp_path / "services") as made:
        yield made
