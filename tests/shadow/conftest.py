"""A Redis and a Kafka, each behind a proxy, in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from compose.local.valkey import ValkeyServer
from tests.shadow.log_pair import LogPair
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import fresh_settings, run_kafka, run_kafka_behind_a_proxy
from tests.support.services import RedisAddress, empty_redis, redis_servers, run_redis


@pytest_asyncio.fixture(scope="package")
async def kafka_proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a Kafka that tells its clients to come that way."""
    folder = tmp_path_factory.mktemp("kafka-behind-a-proxy")
    async with run_kafka_behind_a_proxy(folder) as (_, proxy):
        yield proxy


@pytest_asyncio.fixture(scope="package")
async def redis_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[ValkeyServer | RedisAddress]:
    """One is enough here: how each kind appends, the transport's own tests say."""
    (choice, *_) = redis_servers()[0].values
    async with run_redis(choice, tmp_path_factory.mktemp("redis") / "data") as server:
        yield server


@pytest_asyncio.fixture(scope="package")
async def quiet_kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaServer]:
    """A Kafka without faults, fit to be measured: no proxy, and heap enough.

    The small heap that other tests have is collected some times a second, for milliseconds each:
    just the share of the requests that a p99 is made of.
    """
    folder = tmp_path_factory.mktemp("quiet-kafka")
    async with run_kafka(folder, thorough=True, heap_mb=1024) as server:
        yield server


@pytest_asyncio.fixture
async def redis_proxy(redis_server: ValkeyServer | RedisAddress) -> AsyncIterator[FaultProxy]:
    """A proxy in front of an empty Redis."""
    await empty_redis(redis_server)
    async with FaultProxy(redis_server.host, redis_server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture(params=["redis-to-kafka", "kafka-to-redis"])
async def pair(
    request: pytest.FixtureRequest, redis_proxy: FaultProxy, kafka_proxy: FaultProxy
) -> AsyncIterator[LogPair]:
    """Both logs, empty, one of them the primary and the other its shadow."""
    primary, _, shadow = request.param.partition("-to-")
    settings = fresh_settings(
        f"127.0.0.1:{kafka_proxy.port}",
        transport=primary,
        transport_shadow=shadow,
        redis_host=redis_proxy.host,
        redis_port=redis_proxy.port,
        redis_timeout_ms=1000,
        kafka_timeout_ms=1000,
    )
    yield LogPair(settings, {"redis": redis_proxy, "kafka": kafka_proxy})
    for proxy in (redis_proxy, kafka_proxy):
        proxy.heal()
