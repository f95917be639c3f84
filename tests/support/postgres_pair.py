"""A PostgreSQL and its asynchronous standby, and a failover that loses the tail."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from compose.local.postgres import PostgresServer, run_as
from tests.support.eventually import eventually
from tests.support.requirements import absent

__all__ = ["DATABASE", "PostgresPair", "base_backup", "follow", "pair", "run"]

DATABASE = "crossfade"
_ENOUGH = 2 << 30  # bytes; a pair takes 100 MB, and its WAL


class PostgresPair:
    """A primary and the standby that follows it."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary, self.standby = primary, standby

    @property
    def url(self) -> str:
        """A URL with the addresses of both servers, the first primary first."""
        hosts = ",".join(f"{server.host}:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://crossfade@{hosts}/{DATABASE}"

    async def cut(self) -> None:
        """Wait until the standby has all WAL, then cut its replication."""
        at = await run(self.primary, "SELECT pg_current_wal_flush_lsn()")

        async def has_it() -> bool:
            return bool(await run(self.standby, "SELECT pg_last_wal_replay_lsn() >= $1", at))

        await eventually(has_it)
        await run(self.standby, "ALTER SYSTEM SET primary_conninfo = ''")
        await run(self.standby, "SELECT pg_reload_conf()")

        async def hears_nothing() -> bool:
            return not await run(self.standby, "SELECT count(*) FROM pg_stat_wal_receiver")

        await eventually(hears_nothing)

    async def promote(self) -> None:
        """Make the standby the primary."""
        assert await run(self.standby, "SELECT pg_promote()")

    async def follow(self) -> None:
        """Make the killed server a standby of the promoted one, and swap their roles."""
        old, new = self.primary, self.standby
        await old.stop()
        await new.stop()
        shutil.rmtree(old.data_dir)
        await asyncio.to_thread(shutil.copytree, new.data_dir, old.data_dir)
        follow(old, new)
        await new.start()
        await old.start()
        self.primary, self.standby = new, old


async def run(server: PostgresServer, query: str, *arguments: Any) -> Any:
    """Return one value from a server's database."""
    connection = await asyncpg.connect(server.url_of(DATABASE), timeout=10)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


def follow(server: PostgresServer, primary: PostgresServer) -> None:
    """Configure a stopped server to start as a standby of ``primary``."""
    (server.data_dir / "standby.signal").touch()
    with (server.data_dir / "postgresql.auto.conf").open("a") as conf:
        address = f"host={primary.host} port={primary.port} user=crossfade"
        conf.write(f"primary_conninfo = '{address}'\n")


async def base_backup(server: PostgresServer, folder: Path) -> None:
    """Copy a running server's data as ``pg_basebackup`` does; skip the test where it is missing."""
    how = run_as()
    if how.identity:
        await asyncio.to_thread(_give, folder, how.identity)
    program = server.binary.path.with_name("pg_basebackup")
    if not program.exists():
        absent(f"no {program}: it comes with PostgreSQL's server programs")
    place = ["-h", server.host, "-p", str(server.port), "-U", "crossfade", "-D", str(folder)]
    command = [*how.prefix, str(program), *place, "-c", "fast"]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        check=False,
        user=how.identity[0] if how.identity else None,
    )
    assert done.returncode == 0, done.stderr


def _give(folder: Path, identity: tuple[int, int]) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, *identity)


@asynccontextmanager
async def pair(migrated: Path, folder: Path) -> AsyncIterator[PostgresPair]:
    """Start both on copies of ``migrated``: not every wheel has pg_basebackup.

    They are in memory if possible: on a disk, making their 2,600 files takes two seconds of CPU.
    """
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _ENOUGH:
            made = TemporaryDirectory(prefix="crossfade-pair-", dir=memory)
            folder = Path(stack.enter_context(made))
        data, copy = (folder / name / "data" for name in ("one", "two"))
        for each in (data, copy):
            await asyncio.to_thread(shutil.copytree, migrated, each)
        primary, standby = PostgresServer(data), PostgresServer(copy)
        follow(standby, primary)
        async with primary, standby:
            yield PostgresPair(primary, standby)
