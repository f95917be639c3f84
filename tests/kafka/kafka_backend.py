"""A Kafka node as the conformance suite wants it."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

from compose.local.kafka import KafkaServer
from tests.support.kafka import delete_topics
from transport.conformance import Backend
from transport.kafka import KafkaTransport
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["backend_on"]


def backend_on(server: KafkaServer, settings: TransportSettings, name: str = "kafka") -> Backend:
    """Return the backend of a log on a running node, in the topics that ``settings`` name."""
    topic = create(name, settings).location.messages

    async def append_raw(partition: int, body: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=server.bootstrap) as producer:
            await producer.send_and_wait(topic, body, partition=partition)

    async def remove(_partition: int) -> None:
        # Kafka has no way to delete one partition of a topic.
        await delete_topics(server.bootstrap, topic)

    return Backend(
        create=lambda: create(name, settings),
        features=KafkaTransport.features,
        append_raw=append_raw,
        stop=server.stop,
        start=server.start,
        remove=remove,
        create_other=lambda: create(f"{name.partition('@')[0]}@5", settings),
        patience=30.0,
    )
