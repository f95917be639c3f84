"""The logs that a run can measure: real, durable servers that can be emptied."""

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
        """Make ``environment`` return the settings of an empty log."""

    async def clear(self) -> None:
        """Remove the records of running processes, if these would slow down later appends."""

    def environment(self) -> dict[str, str]:
        """Return the settings with which a process uses this log."""


class RedisLog:
    """Redis Streams, fsync before every acknowledgement, or every second.

    With the latter, a crash of the machine loses messages that were acknowledged. It shows what
    their safety costs.
    """

    transport = "redis"

    def __init__(self, folder: Path, *, appendfsync: str = "always") -> None:
        self.fsync = f"appendfsync {appendfsync}"
        self._server = ValkeyServer(folder / "redis" / "data", config={"appendfsync": appendfsync})
        self.label = self._server.description

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    async def start(self) -> None:
        """Start the server, and ask it for its allocator."""
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
        """Remove everything, and rewrite the append-only file.

        Without workers, which keep a log short, the log grows by 30 MB per second in memory, and
        Redis rewrites its file every few seconds; a run during a rewrite is a quarter slower.
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
        """Return the address of the server."""
        return {
            "TRANSPORT": "redis",
            "REDIS_HOST": self._server.host,
            "REDIS_PORT": str(self._server.port),
        }


class KafkaLog:
    """Apache Kafka, one node, acks=all.

    With ``fsync`` it flushes before every acknowledgement. Without it, it is configured as Kafka's
    documentation advises: the operating system decides when to write, and replicas, not the disk,
    protect from a power cut.
    """

    transport = "kafka"
    label = f"kafka {KAFKA_VERSION}"

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self.fsync = f"log.flush.interval.messages {'1' if fsync else 'unset'}"
        # The heap is large enough that the garbage collector does not affect either side.
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
        """Switch to new topics: deleting topics takes Kafka a while."""
        self._topic = f"bench{next(self._topics)}"

    async def clear(self) -> None:
        """Do nothing: the cost of an append to Kafka does not depend on the log's size."""

    def environment(self) -> dict[str, str]:
        """Return the address of the server, and the present topics."""
        return {
            "TRANSPORT": "kafka",
            "KAFKA_BOOTSTRAP_SERVERS": self._server.bootstrap,
            "KAFKA_TOPIC": self._topic,
            "KAFKA_DLQ_TOPIC": f"{self._topic}.dlq",
        }


LOGS: dict[str, Callable[[Path], Log]] = {
    "redis": RedisLog,
    "kafka": KafkaLog,
    "redis-everysec": partial(RedisLog, appendfsync="everysec"),
    "kafka-fsync": partial(KafkaLog, fsync=True),
}
"""The values of ``--transport``."""
