"""Kafka as a log that is hurt: a real broker, and topics of the test's own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError

from compose.local.kafka import KafkaServer
from compose.rehearsal.eventually import eventually
from transport.kafka.identity import topic_id

__all__ = ["KafkaLog"]

_numbers = itertools.count(1)


class KafkaLog:
    """One node, shared by the session's tests, on topics that no other test has."""

    name = "kafka"
    # Its protocol is binary, and its clients go where the broker says it is, not through a proxy:
    # lost replies are tests/kafka/test_kafka_append_faults.py's matter.
    markers: ClassVar[Mapping[str, bytes]] = {}

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        number = next(_numbers)
        self._topic = f"faults.{number}.stream"
        self._dlq_topic = f"faults.{number}.dlq"

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process of ours to it."""
        return self.environment_through(self.server.host, self.server.port)

    def environment_through(self, host: str, port: int) -> dict[str, str]:
        """Return the settings that lead there by this address."""
        return {
            "TRANSPORT": self.name,
            "KAFKA_BOOTSTRAP_SERVERS": f"{host}:{port}",
            "KAFKA_TOPIC": self._topic,
            "KAFKA_DLQ_TOPIC": self._dlq_topic,
            "KAFKA_TIMEOUT_MS": "1000",
        }

    async def wipe(self) -> None:
        """Delete the topics; return when they are gone, or others have taken their names."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server.bootstrap)
        await admin.start()
        try:
            before = await topic_id(admin, self._topic)
            await admin.delete_topics([self._topic, self._dlq_topic])

            async def gone() -> bool:
                try:
                    return await topic_id(admin, self._topic) != before
                except UnknownTopicOrPartitionError:
                    return True

            await eventually(gone, timeout=10, every=0.01)
        finally:
            await admin.close()
