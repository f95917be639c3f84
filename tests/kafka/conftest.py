"""A Kafka for the tests of this folder, and topics of each test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from tests.support.kafka import TOPICS, KafkaNode, fresh_settings
from tests.support.services import KIND, kafka_address
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


@pytest_asyncio.fixture(scope="session")
async def _given_kafka() -> AsyncIterator[str]:
    """A Kafka that is not ours to hurt, rid of our topics in the end."""
    bootstrap = kafka_address()
    yield bootstrap
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics([t for t in await admin.list_topics() if t.startswith(TOPICS)])
    await admin.close()


@pytest.fixture
def kafka_settings(request: pytest.FixtureRequest) -> TransportSettings:
    """Settings for topics of the test's own, on the node that it hurts if it asks for one."""
    if KIND != "external" or "kafka_server" in request.fixturenames:
        server: KafkaNode = request.getfixturevalue("kafka_server")
        return fresh_settings(server.bootstrap)
    return fresh_settings(request.getfixturevalue("_given_kafka"))


@pytest_asyncio.fixture
async def kafka_transport(kafka_settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    """A connected transport on topics of the test's own."""
    async with KafkaTransport(kafka_settings) as transport:
        yield transport
