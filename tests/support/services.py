"""Servers for the tests: ``TEST_SERVICES`` = local, external or docker.

* ``local`` (the default): child processes, from the PATH or from wheels.
* ``external``: the servers that ``REDIS_*``, ``DATABASE_URL`` and ``KAFKA_BOOTSTRAP_SERVERS`` name.
  The database ``REDIS_STREAM_DB`` of that Redis is emptied before every test; databases of the
  tests' own are made on that PostgreSQL and dropped again, and so are topics (``test.*``).
* ``docker``: containers, through testcontainers (``pip install 'crossfade[docker]'``): the servers
  that tests share, and those that the transports' own tests stop, kill and suspend. Each image of
  Redis is one that they run on.

Servers that a test starts with its own options or files (``new_redis``, ``new_postgres``, a
cluster) are child processes in every mode.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from compose.local.binaries import find_redis, find_redis_servers
from compose.local.databases import create_database, drop_database
from compose.local.kafka_jars import KAFKA_VERSION
from compose.local.postgres import PostgresServer
from compose.local.seaweed import SeaweedServer
from compose.local.server import ServerError
from compose.local.valkey import ValkeyServer
from tests.support.containers import KafkaContainer, RedisContainer, core
from tests.support.requirements import absent

__all__ = [
    "KIND",
    "REDIS_IMAGES",
    "PostgresAddress",
    "RedisAddress",
    "empty_redis",
    "kafka_address",
    "redis_servers",
    "run_kafka_container",
    "run_postgres",
    "run_redis",
    "run_s3",
]

KIND = os.environ.get("TEST_SERVICES", "local")
_KINDS = ("local", "external", "docker")
REDIS_IMAGES = ("valkey/valkey:9.0-alpine", "redis:8.2-alpine")
_POSTGRES_IMAGE = "postgres:18-alpine"
_GIVEN_KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")  # hidden from tests, as all of these
_KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"


@dataclass(frozen=True)
class RedisAddress:
    """An external Redis, which tests can't stop or hurt."""

    host: str
    port: int
    name: str = "redis"
    username: str | None = None
    password: str | None = None
    tls: bool = False
    db: int = 1


@dataclass(frozen=True)
class PostgresAddress:
    """An external PostgreSQL. The user of ``url`` may create databases."""

    url: str

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of ``template`` where one is named; return its address."""
        return await create_database(self.url, name, template=template)

    async def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        await drop_database(self.url, name)


def redis_servers(*, ours: bool = False) -> list[Any]:
    """Return the parameters of a Redis fixture: binaries, images, or the external server.

    With ``ours``, tests may hurt the server, so it is never the external one.
    """
    if KIND not in _KINDS:
        raise pytest.UsageError(f"TEST_SERVICES={KIND!r}: choose one of {', '.join(_KINDS)}")
    if KIND == "external" and not ours:
        return [pytest.param(None, id="external")]
    if KIND == "docker":
        return [pytest.param(image, id=image.partition(":")[0]) for image in REDIS_IMAGES]
    found = find_redis_servers().binaries or [find_redis()]  # the latter raises, with the remedy
    return [pytest.param(binary, id=binary.label.replace(" ", "-")) for binary in found]


@asynccontextmanager
async def run_redis(
    choice: Any, data_dir: Path, **config: str
) -> AsyncIterator[ValkeyServer | RedisContainer | RedisAddress]:
    """Run (or find) the Redis that a parameter of ``redis_servers`` stands for.

    One of ours is started with ``config`` besides, its names with ``_`` for ``-``.
    """
    if choice is None:
        yield _external_redis()
    elif isinstance(choice, str):
        container = RedisContainer(choice, **config)
        try:
            await container.start()
            yield container
        finally:
            await container.remove()
    else:
        options = {name.replace("_", "-"): value for name, value in config.items()}
        server = ValkeyServer(data_dir, binary=choice, config=options)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def empty_redis(server: ValkeyServer | RedisContainer | RedisAddress) -> None:
    """Empty a server of ours completely; of an external one, empty only ``REDIS_STREAM_DB``."""
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


@asynccontextmanager
async def run_s3(data_dir: Path) -> AsyncIterator[SeaweedServer]:
    """Run an S3 server, a child process in every mode. Skip the test where none can be had."""
    try:
        server = SeaweedServer(data_dir)
    except ServerError as error:
        absent(f"no S3 server: {error}")
    async with server:
        yield server


@asynccontextmanager
async def run_kafka_container() -> AsyncIterator[KafkaContainer]:
    """Run a node of Kafka in a container."""
    container = KafkaContainer(_KAFKA_IMAGE)
    try:
        await container.start()
        yield container
    finally:
        await container.remove()


def kafka_address() -> str:
    """Return the address of the external Kafka, which tests can't stop or hurt."""
    if _GIVEN_KAFKA is None:
        raise pytest.UsageError("TEST_SERVICES=external needs KAFKA_BOOTSTRAP_SERVERS")
    return _GIVEN_KAFKA


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
def _container(image: str, port: int, ready: str, times: int) -> Iterator[tuple[str, int]]:
    container = core("container").DockerContainer(image)
    container.with_exposed_ports(port).with_env("POSTGRES_PASSWORD", "crossfade")
    container.waiting_for(core("wait_strategies").LogMessageWaitStrategy(ready, times=times))
    with container as running:
        yield running.get_container_host_ip(), int(running.get_exposed_port(port))
