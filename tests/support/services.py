"""Where the tests' Redis and PostgreSQL come from: ``TEST_SERVICES`` = local, external or docker.

* ``local`` (the default): child processes, from the PATH or from wheels.
* ``external``: the servers that ``REDIS_*`` and ``DATABASE_URL`` name. The database
  ``REDIS_STREAM_DB`` of that Redis is emptied before every test; databases of the tests' own are
  made on that PostgreSQL and dropped again.
* ``docker``: containers, through testcontainers (``pip install 'crossfade[docker]'``).

A test that stops, kills or suspends a server makes one of its own with ``new_redis`` or
``new_postgres``; those are child processes in every mode.
"""

from __future__ import annotations

import importlib
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
from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer

__all__ = [
    "KIND",
    "PostgresAddress",
    "RedisAddress",
    "empty_redis",
    "redis_servers",
    "run_postgres",
    "run_redis",
]

KIND = os.environ.get("TEST_SERVICES", "local")
_KINDS = ("local", "external", "docker")
_IMAGES = ("valkey/valkey:9.0-alpine", "redis:8.2-alpine")
_POSTGRES_IMAGE = "postgres:18-alpine"


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
    image: str, port: int, ready: str, times: int, command: list[str] | None = None
) -> Iterator[tuple[str, int]]:
    try:
        core = importlib.import_module("testcontainers.core.container")
        waiting = importlib.import_module("testcontainers.core.wait_strategies")
    except ImportError as error:
        raise pytest.UsageError("TEST_SERVICES=docker needs crossfade[docker]") from error
    container = core.DockerContainer(image).with_exposed_ports(port)
    container.with_env("POSTGRES_PASSWORD", "crossfade")
    if command:
        container.with_command(command)
    container.waiting_for(waiting.LogMessageWaitStrategy(ready, times=times))
    with container as running:
        yield running.get_container_host_ip(), int(running.get_exposed_port(port))
