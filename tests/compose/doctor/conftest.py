"""``crossfade doctor`` on a Redis and a database of the test's own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from persistence.database.pool import Pool
from tests.support.doctor import Doctor
from transport.redis import RedisTransport
from transport.settings import TransportSettings

NewRedis = Callable[..., Awaitable[ValkeyServer]]


@pytest_asyncio.fixture
async def redis(new_redis: NewRedis) -> AsyncIterator[Redis]:
    server = await new_redis()
    async with Redis(port=server.port, db=1) as client:
        yield client


@pytest.fixture
def silent() -> Iterator[int]:
    """Return a port that takes connections and never answers, as of a server that is suspended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def doctor(tmp_path: Path, redis: Redis, database_url: str) -> Doctor:
    port = redis.connection_pool.connection_kwargs["port"]
    return Doctor(tmp_path, REDIS_PORT=str(port), DATABASE_URL=database_url)


@pytest_asyncio.fixture
async def log(doctor: Doctor, database_pool: Pool) -> TransportSettings:
    """The settings of a log that was made, and is known to the database."""
    settings = TransportSettings(redis_port=int(doctor.settings["REDIS_PORT"]), stream_partitions=2)
    async with RedisTransport(settings) as transport:
        identity = await transport.identity()
    await database_pool.execute("INSERT INTO log_identities VALUES ('redis', $1)", identity)
    return settings
