"""The log that a run measures: a real, durable server, and how to begin with an empty one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis

from compose.local.kafka import KafkaServer
from compose.local.kafka_jars import KAFKA_VERSION
from compose.local.valkey import ValkeyServer

__all__ = ["LOGS", "KafkaLog", "Log", "RedisLog"]

_HEAP_MB = 1024
_LOOK_SECONDS = 0.05
_NEVER = str(2**63 - 1)  # Kafka's default


class Log(Protocol):
    """One log of a stand."""

    transport: str
    label: str
    fsync: str

    @property
    def pid(self) -> int:
        """The server's process."""

    async def start(self) -> None:
        """Start the server."""

    async def stop(self) -> None:
        """Stop the server."""

    async def empty(self) -> None:
        """See that ``environment`` leads to a log without records."""

    async def clear(self) -> None:
        """Remove what running processes have appended, if keeping it would cost; they go on."""

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process to this log."""


class RedisLog:
    """Redis Streams, fsync before every acknowledgement."""

    transport = "redis"
    fsync = "appendfsync always"

    def __init__(self, folder: Path) -> None:
        self._server = ValkeyServer(folder / "redis" / "data")
        self.label = self._server.description

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    async def start(self) -> None:
        """Start the server, and ask it what it allocates with."""
        await self._server.start()
        async with Redis(host=self._server.host, port=self._server.port) as client:
            memory = await client.info("memory")
        self.label = f"{self._server.binary.label}, allocator {memory['mem_allocator']}"

    async def stop(self) -> None:
        """Stop the server."""
        await self._server.stop()

    async def empty(self) -> None:
        """Remove everything."""
        async with Redis(host=self._server.host, port=self._server.port) as client:
            await client.flushall()

    async def clear(self) -> None:
        """Remove everything, and let the append-only file be as short as that.

        Without workers, who keep a log short, it grows by 30 MB a second, all of it in memory, and
        Redis writes it anew every some seconds; a run that meets that has a quarter less.
        """
        async with Redis(host=self._server.host, port=self._server.port) as client:
            await client.flushall()
            await client.bgrewriteaof()
            while True:
                told = await client.info("persistence")
                if not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    def environment(self) -> dict[str, str]:
        """Return its address."""
        return {
            "TRANSPORT": "redis",
            "REDIS_HOST": self._server.host,
            "REDIS_PORT": str(self._server.port),
        }


class KafkaLog:
    """Apache Kafka, one node, acks=all.

    With ``fsync`` before every acknowledgement; else as its documentation advises: the operating
    system writes when it likes, and replicas are what outlives a power cut.
    """

    transport = "kafka"
    label = f"kafka {KAFKA_VERSION}"

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self.fsync = f"log.flush.interval.messages {'1' if fsync else 'unset'}"
        # Enough heap that neither side waits for the collector.
        self._server = KafkaServer(
            folder / "kafka" / "data",
            heap_mb=_HEAP_MB,
            thorough=True,
            config={"log.flush.interval.messages": "1" if fsync else _NEVER},
        )
        self._topics = itertools.count(1)
        self._topic = "bench0"

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    async def start(self) -> None:
        """Start the server."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop the server."""
        await self._server.stop()

    async def empty(self) -> None:
        """Switch to new topics: deleting takes Kafka a while."""
        self._topic = f"bench{next(self._topics)}"

    async def clear(self) -> None:
        """Do nothing: an append to Kafka costs the same, however much is on its disk."""

    def environment(self) -> dict[str, str]:
        """Return its address, and the topics that are in use now."""
        return {
            "TRANSPORT": "kafka",
            "KAFKA_BOOTSTRAP_SERVERS": self._server.bootstrap,
            "KAFKA_TOPIC": self._topic,
            "KAFKA_DLQ_TOPIC": f"{self._topic}.dlq",
        }


LOGS: dict[str, Callable[[Path], Log]] = {
    "redis": RedisLog,
    "kafka": KafkaLog,
    "kafka-fsync": partial(KafkaLog, fsync=True),
}
"""The values of ``--transport``."""
