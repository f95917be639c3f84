"""The servers that a run of the benchmarks uses."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from compose.local.postgres import PostgresServer
from lab.bench.logs import LOGS, Log
from persistence.migrate import upgrade
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Stand", "stand"]

_numbers = itertools.count(1)


class Stand:
    """A durable log and a durable PostgreSQL, shared by all figures of one run."""

    def __init__(self, postgres: PostgresServer, log: Log, folder: Path) -> None:
        self.postgres = postgres
        self.log = log
        self.folder = folder
        self.transport = log.transport
        self.templates: dict[Path, str] = {}
        """Names of migrated template databases, by the checkout that made them."""
        self.others: dict[str, int] = {}
        """Process ids of further servers, by name."""

    def environment(self, database_url: str) -> dict[str, str]:
        """Return the settings with which the service uses these servers."""
        return {"DATABASE_URL": database_url, **self.log_environment()}

    def log_environment(self) -> dict[str, str]:
        """Return the settings of the log."""
        return self.log.environment()

    def new_transport(self) -> Transport:
        """Return a new transport to the log; enter it with ``async with``."""
        names = {name.lower(): value for name, value in self.log_environment().items()}
        return create(self.transport, TransportSettings(**names))  # type: ignore[arg-type]

    async def empty_log(self) -> None:
        """Switch to an empty log, which ``environment`` names from now on."""
        await self.log.empty()

    async def database(self) -> str:
        """Return the address of a fresh, migrated database."""
        url = await self.new_database()
        await upgrade(url)
        return url

    async def new_database(self, *, template: str | None = None) -> str:
        """Return the address of a fresh database, empty or a copy of ``template``."""
        return await self.postgres.create_database(f"bench{next(_numbers)}", template=template)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the servers, by name."""
        return {"log": self.log.pid, "postgres": self.postgres.pid, **self.others}

    async def backlog(self) -> int:
        """Return the number of records after the workers' positions."""
        async with self.new_transport() as transport:
            progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return sum(p.lag or 0 for p in progress)

    def versions(self) -> dict[str, str]:
        """Return the versions of the servers and programs."""
        return {
            "log": self.log.label,
            "postgres": self.postgres.binary.label,
            "fsync": f"{self.log.fsync}; synchronous_commit on",
        }


@asynccontextmanager
async def stand(folder: Path, transport: str = "redis") -> AsyncIterator[Stand]:
    """Start PostgreSQL and the log of ``transport``; stop them when the block ends."""
    log = LOGS[transport](folder)
    postgres = PostgresServer(folder / "postgres" / "data")
    try:
        await log.start()
        await postgres.start()
        await _keep_commit_times(postgres)
        yield Stand(postgres, log, folder)
    finally:
        await log.stop()
        await postgres.stop()


async def _keep_commit_times(postgres: PostgresServer) -> None:
    # Makes PostgreSQL keep the commit time of each row, for our rows and the baselines'.
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    finally:
        await connection.close()
    await postgres.restart()
