"""One Kafka for the tests of this folder, a broken one mended before the next test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from compose.local.kafka import KafkaServer
from tests.support.containers import KafkaContainer
from tests.support.kafka import TOPICS, fresh_settings, run_shared_kafka
from tests.support.services import KIND, kafka_address
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

Node = KafkaServer | KafkaContainer


@pytest_asyncio.fixture(scope="session")
async def _kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with run_shared_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest_asyncio.fixture
async def kafka_server(_kafka: Node) -> Node:
    """A running node, shared; stop and kill it as you like."""
    if not _kafka.running:
        await _kafka.start()
    return _kafka


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
        server: Node = request.getfixturevalue("kafka_server")
        return fresh_settings(server.bootstrap)
    return fresh_settings(request.getfixturevalue("_given_kafka"))


@pytest_asyncio.fixture
async def kafka_transport(kafka_settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    """A connected transport on topics of the test's own."""
    async with KafkaTransport(kafka_settings) as transport:
        yield transport
