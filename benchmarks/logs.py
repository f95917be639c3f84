"""The log that a run measures: a real, durable server, and how to begin with an empty one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis

from compose.local.kafka import KafkaServer
from compose.local.kafka_jars import KAFKA_VERSION
from compose.local.valkey import ValkeyServer

__all__ = ["LOGS", "KafkaLog", "Log", "RedisLog"]

_HEAP_MB = 512


class Log(Protocol):
    """One log of a stand."""

    transport: str
    label: str
    fsync: str

    async def start(self) -> None:
        """Start the server."""

    async def stop(self) -> None:
        """Stop the server."""

    async def empty(self) -> None:
        """See that :meth:`environment` leads to a log without records."""

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process to this log."""


class RedisLog:
    """Redis Streams, fsync before every acknowledgement."""

    transport = "redis"
    fsync = "appendfsync always"

    def __init__(self, folder: Path) -> None:
        self._server = ValkeyServer(folder / "redis" / "data")
        self.label = self._server.binary.label

    async def start(self) -> None:
        """Start the server."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop the server."""
        await self._server.stop()

    async def empty(self) -> None:
        """Remove everything."""
        async with Redis(host=self._server.host, port=self._server.port) as client:
            await client.flushall()

    def environment(self) -> dict[str, str]:
        """Return where it is."""
        return {
            "TRANSPORT": "redis",
            "REDIS_HOST": self._server.host,
            "REDIS_PORT": str(self._server.port),
        }


class KafkaLog:
    """Apache Kafka, one node, fsync before every acknowledgement."""

    transport = "kafka"
    label = f"kafka {KAFKA_VERSION}"
    fsync = "log.flush.interval.messages 1"

    def __init__(self, folder: Path) -> None:
        # Enough heap that neither side waits for the collector.
        self._server = KafkaServer(folder / "kafka" / "data", heap_mb=_HEAP_MB)
        self._topics = itertools.count(1)
        self._topic = "bench0"

    async def start(self) -> None:
        """Start the server."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop the server."""
        await self._server.stop()

    async def empty(self) -> None:
        """Go on with topics that nobody has written to: deleting takes Kafka a while."""
        self._topic = f"bench{next(self._topics)}"

    def environment(self) -> dict[str, str]:
        """Return where it is, and which topics are in use now."""
        return {
            "TRANSPORT": "kafka",
            "KAFKA_BOOTSTRAP_SERVERS": self._server.bootstrap,
            "KAFKA_TOPIC": self._topic,
            "KAFKA_DLQ_TOPIC": f"{self._topic}.dlq",
        }


LOGS: dict[str, type[RedisLog | KafkaLog]] = {"redis": RedisLog, "kafka": KafkaLog}
"""What ``--transport`` may name."""
