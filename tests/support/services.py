"""Where the tests' servers come from: ``TEST_SERVICES`` = local, external or docker.

* ``local`` (the default): child processes, from the PATH or from wheels.
* ``external``: the servers that ``REDIS_*``, ``DATABASE_URL`` and ``KAFKA_BOOTSTRAP_SERVERS`` name.
  The database ``REDIS_STREAM_DB`` of that Redis is emptied before every test; databases of the
  tests' own are made on that PostgreSQL and dropped again, and so are topics (``test.*``).
* ``docker``: containers, through testcontainers (``pip install 'crossfade[docker]'``).

A test that stops, kills or suspends a server has one of its own (``new_redis``, ``new_postgres``,
``kafka_server``); those are child processes in every mode.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from compose.local.binaries import find_redis, find_redis_servers
from compose.local.databases import create_database, drop_database
from compose.local.kafka_jars import KAFKA_VERSION
from compose.local.ports import free_port
from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer

__all__ = [
    "KIND",
    "PostgresAddress",
    "RedisAddress",
    "empty_redis",
    "kafka_address",
    "redis_servers",
    "run_postgres",
    "run_redis",
]

KIND = os.environ.get("TEST_SERVICES", "local")
_KINDS = ("local", "external", "docker")
_IMAGES = ("valkey/valkey:9.0-alpine", "redis:8.2-alpine")
_POSTGRES_IMAGE = "postgres:18-alpine"
_GIVEN_KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")  # hidden from tests, as all of these
_KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"


@dataclass(frozen=True)
class RedisAddress:
    """A Redis that is not our child: nothing to stop or hurt."""

    host: str
    port: int
    name: str = "redis"
    username: str | None = None
    password: str | None = None
    tls: bool = False
    db: int = 1


@dataclass(frozen=True)
class PostgresAddress:
    """A PostgreSQL that is not our child. ``url`` may create databases."""

    url: str

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of ``template`` where one is named; return its address."""
        return await create_database(self.url, name, template=template)

    async def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        await drop_database(self.url, name)


def redis_servers() -> list[Any]:
    """Return what the ``redis_server`` fixture is parametrized over: binaries, images, or one."""
    if KIND not in _KINDS:
        raise pytest.UsageError(f"TEST_SERVICES={KIND!r}: choose one of {', '.join(_KINDS)}")
    if KIND == "external":
        return [pytest.param(None, id="external")]
    if KIND == "docker":
        return [pytest.param(image, id=image.partition(":")[0]) for image in _IMAGES]
    found = find_redis_servers().binaries or [find_redis()]  # the latter raises, with the remedy
    return [pytest.param(binary, id=binary.label.replace(" ", "-")) for binary in found]


@asynccontextmanager
async def run_redis(choice: Any, data_dir: Path) -> AsyncIterator[ValkeyServer | RedisAddress]:
    """Run (or find) the Redis that a parameter of :func:`redis_servers` stands for."""
    if KIND == "external":
        yield _external_redis()
    elif KIND == "docker":
        with _redis_container(choice) as address:
            yield address
    else:
        server = ValkeyServer(data_dir, binary=choice)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def empty_redis(server: ValkeyServer | RedisAddress) -> None:
    """Empty it: all of a server of ours, only ``REDIS_STREAM_DB`` of a given one."""
    given = isinstance(server, RedisAddress)
    client = Redis(
        host=server.host,
        port=server.port,
        db=server.db if isinstance(server, RedisAddress) else 0,
        username=server.username if isinstance(server, RedisAddress) else None,
        password=server.password if isinstance(server, RedisAddress) else None,
        ssl=isinstance(server, RedisAddress) and server.tls,
    )
    async with client:
        await (client.flushdb() if given else client.flushall())


@asynccontextmanager
async def run_postgres(data_dir: Path) -> AsyncIterator[PostgresServer | PostgresAddress]:
    """Run (or find) the PostgreSQL of the session."""
    if KIND == "external":
        if "DATABASE_URL" not in os.environ:
            raise pytest.UsageError("TEST_SERVICES=external needs DATABASE_URL")
        yield PostgresAddress(os.environ["DATABASE_URL"])
    elif KIND == "docker":
        with _container(_POSTGRES_IMAGE, 5432, "ready to accept connections", 2) as (host, port):
            yield PostgresAddress(f"postgresql://postgres:crossfade@{host}:{port}/postgres")
    else:
        server = PostgresServer(data_dir)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@contextmanager
def kafka_address() -> Iterator[str]:
    """Find (or run in a container) a Kafka that is not our child: nothing to stop or hurt."""
    if KIND == "external":
        if _GIVEN_KAFKA is None:
            raise pytest.UsageError("TEST_SERVICES=external needs KAFKA_BOOTSTRAP_SERVERS")
        yield _GIVEN_KAFKA
        return
    port = free_port()  # the broker names it to its clients, so it must be known beforehand
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "CLIENT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"CLIENT://localhost:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "CLIENT",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "500",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    }
    ready = "Kafka Server started"
    with _container(_KAFKA_IMAGE, 9092, ready, 1, environment=environment, published=port):
        yield f"localhost:{port}"


def _external_redis() -> RedisAddress:
    env = os.environ
    if "REDIS_HOST" not in env:
        raise pytest.UsageError("TEST_SERVICES=external needs REDIS_HOST (and REDIS_PORT)")
    return RedisAddress(
        env["REDIS_HOST"],
        int(env.get("REDIS_PORT", "6379")),
        username=env.get("REDIS_USERNAME"),
        password=env.get("REDIS_PASSWORD"),
        tls=env.get("REDIS_TLS", "false").lower() in {"1", "true", "yes"},
        db=int(env.get("REDIS_STREAM_DB", "1")),
    )


@contextmanager
def _redis_container(image: str) -> Iterator[RedisAddress]:
    server = "valkey-server" if "valkey" in image else "redis-server"
    durable = [server, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with _container(image, 6379, "Ready to accept connections", 1, durable) as (host, port):
        yield RedisAddress(host, port, name=server.partition("-")[0])


@contextmanager
def _container(
    image: str,
    port: int,
    ready: str,
    times: int,
    command: list[str] | None = None,
    *,
    environment: Mapping[str, str] = {"POSTGRES_PASSWORD": "crossfade"},
    published: int | None = None,
) -> Iterator[tuple[str, int]]:
    try:
        core = importlib.import_module("testcontainers.core.container")
        waiting = importlib.import_module("testcontainers.core.wait_strategies")
    except ImportError as error:
        raise pytest.UsageError("TEST_SERVICES=docker needs crossfade[docker]") from error
    container = core.DockerContainer(image)
    container = container.with_bind_ports(port, published) if published else container
    container.with_exposed_ports(port)
    for name, value in environment.items():
        container.with_env(name, value)
    if command:
        container.with_command(command)
    container.waiting_for(waiting.LogMessageWaitStrategy(ready, times=times))
    with container as running:
        yield running.get_container_host_ip(), int(running.get_exposed_port(port))
