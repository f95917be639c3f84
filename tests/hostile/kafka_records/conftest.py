"""A Kafka whose records are damaged; each test has topics and a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from persistence.database.pool import Pool
from tests.support.kafka import KafkaNode, fresh_settings
from tests.support.kafka_consumers import KafkaConsumers
from tests.support.record_batches import RawProducer, raw_producer
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


@pytest.fixture
def kafka_settings(kafka_server: KafkaNode) -> TransportSettings:
    """Settings for topics of the test's own, two partitions, and time for large records."""
    return fresh_settings(kafka_server.bootstrap, stream_partitions=2, kafka_timeout_ms=5000)


@pytest_asyncio.fixture
async def kafka_transport(kafka_settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    """A connected transport on topics of the test's own."""
    async with KafkaTransport(kafka_settings) as transport:
        yield transport


@pytest_asyncio.fixture
async def producer(kafka_server: KafkaNode) -> AsyncIterator[RawProducer]:
    """Appends record batches byte by byte."""
    async with raw_producer(kafka_server.bootstrap) as one:
        yield one


@pytest_asyncio.fixture
async def site(
    kafka_transport: KafkaTransport, database_pool: Pool
) -> AsyncIterator[KafkaConsumers]:
    """A worker and an indexer of dead letters that run."""
    async with KafkaConsumers.running(kafka_transport, database_pool) as one:
        yield one
