"""Kafka as a log that is hurt: a real broker, and topics of the test's own."""

from __future__ import annotations

import itertools
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import KafkaNode, delete_topics
from tests.support.kafka_cluster import KafkaCluster

__all__ = ["KafkaLog"]

_numbers = itertools.count(1)


class KafkaLog:
    """One node (or several), shared by tests, on topics that no other test has.

    ``proxy`` is the proxy whose address the node tells its clients.
    """

    name = "kafka"
    markers: ClassVar[Mapping[str, bytes]] = {
        "append": b"messageId",  # a header of every message
        "read": struct.pack(">ii", 500, 1),  # max_wait and min_bytes in a fetch request
        "show": b'"topic_id":',  # in the metadata of a commit
    }

    def __init__(self, server: KafkaNode | KafkaCluster, proxy: FaultProxy | None = None) -> None:
        self.server = server
        self._proxy = proxy
        number = next(_numbers)
        self._topic = f"faults.{number}.stream"
        self._dlq_topic = f"faults.{number}.dlq"

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process of ours to it."""
        replicas = 3 if isinstance(self.server, KafkaCluster) else 1
        return {
            "TRANSPORT": self.name,
            "KAFKA_BOOTSTRAP_SERVERS": self.server.bootstrap,
            "KAFKA_REPLICATION_FACTOR": str(replicas),
            "KAFKA_TOPIC": self._topic,
            "KAFKA_DLQ_TOPIC": self._dlq_topic,
        }

    def environment_through(self, host: str, port: int) -> dict[str, str]:
        """Return the settings that lead there by this address."""
        return {**self.environment(), "KAFKA_BOOTSTRAP_SERVERS": f"{host}:{port}"}

    @asynccontextmanager
    async def proxy(self) -> AsyncIterator[FaultProxy]:
        """Yield the proxy in front of the node, which all clients use."""
        assert self._proxy is not None, "run_kafka_behind_a_proxy makes one"
        yield self._proxy
        self._proxy.heal()

    async def wipe(self) -> None:
        """Delete the topics; return when they are gone, or were made anew."""
        await delete_topics(self.server.bootstrap, self._topic, self._dlq_topic)
