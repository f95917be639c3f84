"""A Redis whose clock is set ahead and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.binaries import find_redis_servers
from compose.local.valkey import ValkeyServer
from tests.faults.deployment import Deployment
from tests.faults.logs import RedisLog
from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings
from transport.redis import RedisTransport

_BINARIES = find_redis_servers().binaries


@pytest.fixture
def clock(tmp_path) -> SteppedClock:
    """The clock of ``server``."""
    return SteppedClock(tmp_path)


@pytest_asyncio.fixture(
    params=_BINARIES, ids=[binary.label.replace(" ", "-") for binary in _BINARIES]
)
async def server(
    request: pytest.FixtureRequest, tmp_path, clock: SteppedClock
) -> AsyncIterator[ValkeyServer]:
    """A durable server on ``clock``."""
    server = ValkeyServer(tmp_path / "data", binary=clock.binary(request.param))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def log(server: ValkeyServer) -> AsyncIterator[RedisTransport]:
    """A log on ``server``: four partitions."""
    async with RedisTransport.from_settings(short_settings(server)) as transport:
        yield transport


@pytest_asyncio.fixture
async def client(server: ValkeyServer) -> AsyncIterator[Redis]:
    """A plain client on the log's database."""
    settings = short_settings(server)
    async with Redis(
        host=server.host, port=server.port, db=settings.redis_stream_db, protocol=2
    ) as client:
        yield client


@pytest_asyncio.fixture
async def deployment(
    new_redis: Callable[..., Awaitable[ValkeyServer]],
    postgres_server: Any,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Deployment]:
    """Processes of ours, whose clocks a test sets, on a Redis of the test's own."""
    log = RedisLog(await new_redis())
    async with Deployment.on(log, postgres_server, database_url, tmp_path / "services") as made:
        yield made
