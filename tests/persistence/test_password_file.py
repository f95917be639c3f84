"""``DATABASE_PASSWORD_FILE``: a password that is replaced while the service runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError

from compose.local.postgres import PostgresServer
from persistence.database.pool import connect, connect_reads, using
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected
from persistence.migrate import current
from persistence.settings import PersistenceSettings
from tests.support.eventually import eventually

_ODD = "a b/c?d&e=f%41+ü'"


class _Rotating:
    """A role with a password, the file that has it, and an address without it."""

    def __init__(self, server: PostgresServer, admin: asyncpg.Connection, file: Path) -> None:
        self._admin = admin
        self.file = file
        self.url = server.url.replace("crossfade@", "rotating@", 1)

    async def is_now(self, password: str) -> None:
        """Change the role's password, and end its sessions."""
        quoted = await self._admin.fetchval("SELECT quote_literal($1::text)", password)
        await self._admin.execute(f"ALTER ROLE rotating PASSWORD {quoted}")
        await self._admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'"
        )

    def settings(self, **changes: str) -> PersistenceSettings:
        urls = {name: SecretStr(url) for name, url in changes.items()}
        return PersistenceSettings(
            database_url=SecretStr(self.url), database_password_file=str(self.file), **urls
        )


@pytest.fixture
async def rotating(new_postgres, tmp_path: Path):
    server: PostgresServer = await new_postgres()
    admin = await asyncpg.connect(server.url)
    await admin.execute("CREATE ROLE rotating LOGIN")
    rules = server.data_dir / "pg_hba.conf"
    rules.write_text(f"host all rotating all scram-sha-256\n{rules.read_text()}")
    await admin.execute("SELECT pg_reload_conf()")
    role = _Rotating(server, admin, tmp_path / "password")
    role.file.write_text("first\n")
    await role.is_now("first")
    yield role
    await admin.close()


async def _user(pool) -> str:
    async with using(pool) as connection:
        return str(await connection.fetchval("SELECT current_user"))


async def test_each_new_connection_gets_the_password_that_the_file_has(rotating) -> None:
    pool = await connect(rotating.settings())

    async def works() -> bool:
        with suppress(Outage):  # the session that was ended
            return await _user(pool) == "rotating"
        return False

    async def told() -> str:
        with pytest.raises(Outage) as refused:
            await _user(pool)
        return str(refused.value)

    async def is_refused() -> bool:
        return "password authentication failed" in await told()

    async def names_the_file() -> bool:
        return f"DATABASE_PASSWORD_FILE={str(rotating.file)!r} can't be read" in await told()

    try:
        assert await works()
        await rotating.is_now("second")
        await eventually(is_refused)
        rotating.file.write_text("second\n")
        await eventually(works)

        rotating.file.unlink()
        assert await works(), "a connection that is open stays"
        await rotating.is_now("third")
        await eventually(names_the_file)
        rotating.file.write_text("third")
        await eventually(works)
    finally:
        pool.terminate()


async def test_it_is_the_password_of_every_address(rotating) -> None:
    """Past a pooler, of a standby, of several hosts, and of the commands that migrate."""
    await rotating.is_now(_ODD)
    rotating.file.write_text(_ODD)
    settings = rotating.settings(
        database_direct_url=f"{rotating.url}?sslmode=prefer", database_read_url=rotating.url
    )
    pool, reads = await connect(settings), await connect_reads(settings)
    assert reads is not None
    try:
        assert await _user(reads) == "rotating"
        async with elected(pool, "test") as session:
            assert session is not None
            assert await session.fetchval("SELECT current_user") == "rotating"
        assert await current(settings.direct_url) is None
    finally:
        pool.terminate()
        reads.terminate()
    place = rotating.url.partition("@")[2].partition("/")[0]
    several = rotating.url.replace(place, f"{place},127.0.0.1:1")
    pool = await connect(
        rotating.settings().model_copy(update={"database_url": SecretStr(several)})
    )
    try:
        assert await _user(pool) == "rotating"
    finally:
        pool.terminate()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:x@host/db",
        "postgresql://me@host/db?password=x",
        "postgresql://me@host/db?passfile={file}",
    ],
)
def test_a_password_is_given_once(tmp_path: Path, url: str) -> None:
    file = tmp_path / "password"
    file.write_text("y")
    with pytest.raises(ValidationError, match=r"DATABASE_PASSWORD_FILE .* leave one of them out"):
        PersistenceSettings(
            database_url=SecretStr(url.format(file=file)), database_password_file=str(file)
        )


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"DATABASE_PASSWORD_FILE=.*can't be read"):
        PersistenceSettings(database_password_file=str(tmp_path / "none"))
