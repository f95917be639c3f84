"""One Kafka for the tests of this folder, a broken one mended before the next test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from tests.support.kafka import fresh_settings, run_kafka
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


@pytest_asyncio.fixture(scope="session")
async def _kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaServer]:
    async with run_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest_asyncio.fixture
async def kafka_server(_kafka: KafkaServer) -> KafkaServer:
    """A running node, shared; stop and kill it as you like."""
    if not _kafka.running:
        await _kafka.start()
    return _kafka


@pytest.fixture
def kafka_settings(kafka_server: KafkaServer) -> TransportSettings:
    """Settings for topics of the test's own."""
    return fresh_settings(kafka_server.bootstrap)


@pytest_asyncio.fixture
async def kafka_transport(kafka_settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    """A connected transport on topics of the test's own."""
    async with KafkaTransport(kafka_settings) as transport:
        yield transport
