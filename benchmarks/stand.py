"""The servers that a run of the benchmarks uses, and what it asks of them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from persistence.migrate import upgrade
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Stand", "stand"]

_numbers = itertools.count(1)


class Stand:
    """A durable log and a durable PostgreSQL, shared by all figures of one run."""

    def __init__(self, postgres: PostgresServer, redis: ValkeyServer, folder: Path) -> None:
        self.postgres = postgres
        self.redis = redis
        self.folder = folder
        self.transport = "redis"

    def environment(self, database_url: str) -> dict[str, str]:
        """Return the settings that lead a process of ours to these servers."""
        return {"DATABASE_URL": database_url, **self.log_environment()}

    def log_environment(self) -> dict[str, str]:
        """Return the settings that lead to the log."""
        return {
            "TRANSPORT": self.transport,
            "REDIS_HOST": self.redis.host,
            "REDIS_PORT": str(self.redis.port),
        }

    def new_transport(self) -> Transport:
        """Return a transport of the benchmark's own, to enter."""
        names = {name.lower(): value for name, value in self.log_environment().items()}
        return create(self.transport, TransportSettings(**names))  # type: ignore[arg-type]

    async def empty_log(self) -> None:
        """Remove everything from the log."""
        async with Redis(host=self.redis.host, port=self.redis.port) as client:
            await client.flushall()

    async def database(self) -> str:
        """Return the address of a fresh, migrated database."""
        url = await self.postgres.create_database(f"bench{next(_numbers)}")
        await upgrade(url)
        return url

    async def backlog(self) -> int:
        """Return how many records no worker has acknowledged."""
        async with self.new_transport() as transport:
            progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return sum(p.lag or 0 for p in progress)

    def versions(self) -> dict[str, str]:
        """Return what is measured on."""
        return {
            "log": self.redis.binary.label,
            "postgres": self.postgres.binary.label,
            "fsync": "appendfsync always; synchronous_commit on",
        }


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    """Start the servers; stop them when the block ends."""
    redis = ValkeyServer(folder / "redis" / "data")
    postgres = PostgresServer(folder / "postgres" / "data")
    try:
        await redis.start()
        await postgres.start()
        await _keep_commit_times(postgres)
        yield Stand(postgres, redis, folder)
    finally:
        await redis.stop()
        await postgres.stop()


async def _keep_commit_times(postgres: PostgresServer) -> None:
    # Rows don't tell when they were committed; with this PostgreSQL does, for ours and baseline.
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    finally:
        await connection.close()
    await postgres.restart()
