"""Two real logs and a database: what comparisons and backfills work on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.kafka import KafkaNode, fresh_settings
from transport.kafka import KafkaTransport
from transport.redis import RedisTransport
from transport.settings import TransportSettings

PARTITIONS = 4


@pytest.fixture
def both_settings(kafka_server: KafkaNode, redis_settings: TransportSettings) -> TransportSettings:
    """Settings for an empty Redis and for topics of the test's own."""
    ours = fresh_settings(kafka_server.bootstrap, stream_partitions=PARTITIONS)
    changes = ours.model_dump(include={"kafka_bootstrap_servers", "kafka_topic", "kafka_dlq_topic"})
    changes |= {"transport": "redis", "transport_shadow": "kafka", "stream_partitions": PARTITIONS}
    return redis_settings.model_copy(update=changes)


@pytest_asyncio.fixture
async def redis_log(both_settings: TransportSettings) -> AsyncIterator[RedisTransport]:
    async with RedisTransport(both_settings) as log:
        yield log


@pytest_asyncio.fixture
async def redis_client(both_settings: TransportSettings) -> AsyncIterator[Redis]:
    """Another program's connection to the Redis of ``redis_log``."""
    async with Redis(
        host=both_settings.redis_host,
        port=both_settings.redis_port,
        db=both_settings.redis_stream_db,
        protocol=2,
    ) as client:
        yield client


@pytest_asyncio.fixture
async def kafka_log(both_settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    async with KafkaTransport(both_settings) as log:
        yield log
