"""Redis servers for the transport's tests: every available one, and servers to stop and kill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.binaries import find_redis
from compose.local.valkey import ValkeyServer
from tests.support.containers import RedisContainer
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_cluster import RedisCluster
from tests.support.services import redis_servers, run_redis
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import Failover, pair
from transport.redis import RedisTransport
from transport.settings import TransportSettings

Server = ValkeyServer | RedisContainer


@pytest_asyncio.fixture(scope="session", params=redis_servers(ours=True))
async def _own_redis(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("own-redis") / "data"
    async with run_redis(request.param, folder, enable_debug_command="yes") as server:
        yield server


@pytest_asyncio.fixture
async def own_redis(_own_redis: Server) -> Server:
    """A durable server, empty, its configuration as at the start; stop and kill it as you like."""
    if not _own_redis.running:
        await _own_redis.start()
    async with Redis(host=_own_redis.host, port=_own_redis.port) as client:
        await client.flushall()
    return _own_redis


@pytest.fixture
def settings(own_redis: Server) -> TransportSettings:
    """Settings for ``own_redis``: few partitions."""
    return short_settings(own_redis)


@pytest_asyncio.fixture
async def client(own_redis: Server, settings: TransportSettings) -> AsyncIterator[Redis]:
    """A plain client on the transport's database, to read it and to damage it."""
    async with Redis(
        host=own_redis.host, port=own_redis.port, db=settings.redis_stream_db, protocol=2
    ) as client:
        yield client


@pytest_asyncio.fixture
async def failover(tmp_path: Path) -> AsyncIterator[Failover]:
    """A primary with a replica, behind an address that leads to either."""
    async with pair(tmp_path, None) as failover:
        yield failover


@pytest_asyncio.fixture
async def third(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A server that has nothing of the log."""
    server = ValkeyServer(tmp_path / "third" / "data", binary=find_redis())
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def proxy(own_redis: Server) -> AsyncIterator[FaultProxy]:
    """A proxy in front of ``own_redis``."""
    async with FaultProxy(own_redis.host, own_redis.port) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def far(own_redis: Server, proxy: FaultProxy) -> AsyncIterator[RedisTransport]:
    """A transport that reaches ``own_redis`` through ``proxy``."""
    settings = short_settings(own_redis, redis_host=proxy.host, redis_port=proxy.port)
    async with RedisTransport.from_settings(settings) as transport:
        yield transport


@pytest_asyncio.fixture
async def near(settings: TransportSettings) -> AsyncIterator[RedisTransport]:
    """A transport that reaches ``own_redis`` directly."""
    async with RedisTransport.from_settings(settings) as transport:
        yield transport


@pytest_asyncio.fixture(scope="module")
async def _shards(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisCluster]:
    cluster = RedisCluster(
        tmp_path_factory.mktemp("shards"), replicas=1, enable_debug_command="yes"
    )
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


@pytest_asyncio.fixture
async def shards(_shards: RedisCluster) -> RedisCluster:
    """Three primaries, three replicas; empty."""
    await _shards.begin_anew()
    return _shards
