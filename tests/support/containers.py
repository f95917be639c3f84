"""Servers in containers, which tests stop, kill, suspend and restart like child processes.

They need ``testcontainers`` (the ``docker`` extra), imported when the first container starts.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from compose.local.binaries import Binary, find_redis
from compose.local.ports import free_port
from tests.support.eventually import eventually

__all__ = ["KAFKA_ENVIRONMENT", "ContainerServer", "KafkaContainer", "RedisContainer", "core"]

KAFKA_ENVIRONMENT = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "CLIENT://:9092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "CLIENT",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "true",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "500",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_LOG_FLUSH_INTERVAL_MESSAGES": "1",
}
"""Settings of a single node, without its advertised address."""


def core(module: str) -> Any:
    """Return a module of ``testcontainers.core``."""
    try:
        return importlib.import_module(f"testcontainers.core.{module}")
    except ImportError as error:
        raise pytest.UsageError("TEST_SERVICES=docker needs crossfade[docker]") from error


class ContainerServer:
    """A container of ``image`` with its ``inner`` port published on a port that never changes."""

    host = "127.0.0.1"
    inner: ClassVar[int]

    def __init__(
        self,
        image: str,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = image.partition(":")[0]
        self.port = free_port()
        self.running = False
        self._made = core("container").DockerContainer(image)
        self._made.with_bind_ports(self.inner, self.port)
        for name, value in (environment or {}).items():
            self._made.with_env(name, value)
        if command:
            self._made.with_command(list(command))
        self._container: Any = None

    async def start(self) -> None:
        """Start the container; return once the server answers."""
        if self._container is None:
            await asyncio.to_thread(self._made.start)
            self._container = self._made.get_wrapped_container()
        else:
            await asyncio.to_thread(self._container.start)
        self.running = True
        await eventually(self._answers)

    async def stop(self) -> None:
        """Stop it in good order."""
        await self._end("stop", timeout=15)

    async def kill(self) -> None:
        """SIGKILL it."""
        await self._end("kill")

    async def suspend(self) -> None:
        """Freeze the container: connections stay open without answers."""
        await asyncio.to_thread(self._container.pause)

    async def resume(self) -> None:
        """Unfreeze the container."""
        await asyncio.to_thread(self._container.unpause)

    async def restart(self) -> None:
        """Stop and start it, on the same port and data."""
        await self.stop()
        await self.start()

    async def remove(self) -> None:
        """Remove it with its data."""
        self.running = False
        if self._container is not None:
            await asyncio.to_thread(self._made.stop)

    async def _end(self, way: str, **options: object) -> None:
        if not self.running:
            return
        await asyncio.to_thread(getattr(self._container, way), **options)
        self.running = False
        await asyncio.to_thread(self._container.wait)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(5):
                await self._ask()
        except (OSError, EOFError, TimeoutError, KafkaError):
            return False
        return True

    _ask: Callable[[], Awaitable[None]]


class RedisContainer(ContainerServer):
    """Redis or Valkey, durable, with ``options`` besides."""

    inner = 6379
    pid = None
    """``None``: a container's process ids are not visible."""

    def __init__(self, image: str, **options: str) -> None:
        program = "valkey-server" if "valkey" in image else "redis-server"
        given = {"appendonly": "yes", "appendfsync": "always", "save": ""} | {
            name.replace("_", "-"): value for name, value in options.items()
        }
        pairs = [part for name, value in given.items() for part in (f"--{name}", value)]
        super().__init__(image, command=[program, *pairs])

    @property
    def binary(self) -> Binary:
        """The binary for servers that a test starts beside it, as child processes."""
        return find_redis()

    async def _ask(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(b"PING\r\n")
            if await reader.readline() != b"+PONG\r\n":
                raise EOFError
        finally:
            writer.close()


class KafkaContainer(ContainerServer):
    """One node of Kafka."""

    inner = 9092

    def __init__(self, image: str) -> None:
        super().__init__(image)
        for name, value in KAFKA_ENVIRONMENT.items():
            self._made.with_env(name, value)
        # The broker tells clients its port, so the published port must be known before.
        self._made.with_env("KAFKA_ADVERTISED_LISTENERS", f"CLIENT://{self.bootstrap}")

    @property
    def bootstrap(self) -> str:
        """Addresses for a client's ``bootstrap.servers``."""
        return f"{self.host}:{self.port}"

    async def _ask(self) -> None:
        connection = await create_conn(self.host, self.port, request_timeout_ms=4000)
        await connection.close()
