"""PostgreSQL fails over: to another host of DATABASE_URL, and behind a fixed address."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from compose.local.postgres import PostgresServer
from persistence.database.pool import connect, using
from persistence.database_url import urls_of
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected
from persistence.settings import PersistenceSettings
from persistence.store.reserved_connections import ReservedConnections
from persistence.store.writer import Writer
from tests.faults.database import drop_connections
from tests.faults.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.postgres_pair import DATABASE, follow

_ROWS_AGAIN_SECONDS = 15.0  # some 5; the statements under way have 30
_IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"


class Pair:
    """A primary and its standby."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary, self.standby = primary, standby
        one, other = (f"{server.host}:{server.port}" for server in (primary, standby))
        self.url = primary.url_of(DATABASE).replace(one, f"{one},{other}")

    async def fail_over(self) -> None:
        """Stop the primary, promote the standby; the old primary comes back as its standby."""
        old, new = self.primary, self.standby
        await old.stop()  # in good order: the standby has everything
        await _run(new, "SELECT pg_promote()")
        follow(old, new)
        await old.start()
        self.primary, self.standby = new, old
        # From now on the old primary, which is named first, is asked again, and answers as one
        # that can only be read.
        await drop_connections(new.url_of(DATABASE))


async def _run(server: PostgresServer, statement: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@pytest.fixture
async def pair(tmp_path: Path, migrated_postgres: Path) -> AsyncIterator[Pair]:
    """Two servers of the test's own, migrated, the second one in step with the first."""
    folders = [tmp_path / name / "data" for name in ("one", "two")]
    # A copy of a server that was stopped in good order is as good as pg_basebackup's, which not
    # every wheel has.
    for folder in folders:
        shutil.copytree(migrated_postgres, folder)
    primary, standby = map(PostgresServer, folders)
    follow(standby, primary)
    try:
        await primary.start()
        await standby.start()
        await eventually(lambda: _run(primary, _IN_STEP))
        yield Pair(primary, standby)
    finally:
        await standby.stop()
        await primary.stop()


def _settings(url: str, **more: Any) -> PersistenceSettings:
    return PersistenceSettings(database_url=SecretStr(url), **more)


@pytest.mark.timeout(120)
async def test_the_next_host_is_asked_when_the_first_was_demoted(
    deployment: Deployment, pair: Pair
) -> None:
    """There and back, with nothing restarted: nothing is dead-lettered, all accepted are rows."""
    deployment.database_url = pair.url
    ingresses, _ = await deployment.run()
    async with deployment.load(ingresses) as load:
        for _ in range(2):
            await load.goes_on(100)
            await pair.fail_over()
            before = int(str(await _count(pair.primary)))
            await eventually(lambda least=before: _grows(pair.primary, least))
            await load.goes_on(50)
    deployment.database_url = pair.primary.url_of(DATABASE)
    final = await deployment.assert_promises_held()
    assert {letter.reason for letter in final.letters} <= {"idempotency_conflict"}


@pytest.mark.timeout(120)
async def test_a_host_that_hangs_is_left_for_the_one_that_was_promoted(
    deployment: Deployment, pair: Pair
) -> None:
    """Rows come again within seconds, not after the 30 of the statements under way."""
    deployment.database_url = pair.url
    ingresses, _ = await deployment.run(ingresses=1)
    async with deployment.load(ingresses) as load:
        await load.goes_on(100)
        await pair.primary.suspend()
        try:
            await load.goes_on(50)
            await _run(pair.standby, "SELECT pg_promote()")
            before = int(str(await _count(pair.standby)))
            began = time.monotonic()
            await eventually(lambda: _grows(pair.standby, before))
            took = time.monotonic() - began
            await load.goes_on(50)
        finally:
            await pair.primary.kill()
    assert took < _ROWS_AGAIN_SECONDS
    deployment.database_url = pair.standby.url_of(DATABASE)
    await deployment.assert_promises_held()


async def _count(server: PostgresServer) -> object:
    connection = await asyncpg.connect(server.url_of(DATABASE))
    try:
        return await connection.fetchval("SELECT count(*) FROM messages")
    finally:
        await connection.close()


async def _grows(server: PostgresServer, least: int) -> bool:
    return int(str(await _count(server))) > least


@asynccontextmanager
async def _read_only(server: PostgresServer) -> AsyncIterator[None]:
    """Answer writes as a demoted primary does (25006), and keep every session."""
    await _run(server, "ALTER SYSTEM SET default_transaction_read_only = on")
    await _run(server, "SELECT pg_reload_conf()")
    yield
    connection = await asyncpg.connect(
        server.url, server_settings={"default_transaction_read_only": "off"}
    )
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def test_one_refusal_replaces_every_connection(pair: Pair) -> None:
    """Also one that is kept between questions, and one that holds an elected process's lock."""
    old, new = pair.primary, pair.standby
    async with FaultProxy(old.host, old.port) as proxy:
        url = old.url_of(DATABASE).replace(f":{old.port}/", f":{proxy.port}/")
        pool = await connect(_settings(url, database_pool_size=8))
        held = ReservedConnections(pool, most=2)
        try:
            await held.fetch("SELECT 1", within=5.0)
            await asyncio.gather(*(_sleep(pool) for _ in range(6)))
            await _run(new, "SELECT pg_promote()")
            async with _read_only(old):
                proxy.lead_to(new.host, new.port)
                with pytest.raises(Outage, match="25006"):
                    async with elected(pool, "test") as lock:
                        assert lock is not None
                        await eventually(lambda: _shows_read_only(lock))
                        await Writer(pool).probe()
                await Writer(pool).probe()
                ports = await asyncio.gather(*(_sleep(pool) for _ in range(7)))
                ports += [(await held.fetch(_PORT, within=5.0))[0][0]]
                assert set(ports) == {new.port}
        finally:
            await held.close()
            pool.terminate()


_PORT = "SELECT current_setting('port')::int"


async def _sleep(pool: asyncpg.Pool) -> int:
    async with using(pool) as connection:
        await connection.execute("SELECT pg_sleep(0.2)")
        return int(await connection.fetchval(_PORT))


async def _shows_read_only(connection: asyncpg.Connection) -> bool:
    shown = await connection.fetchval("SHOW default_transaction_read_only")
    return bool(shown == "on")


async def test_a_host_that_does_not_answer_leaves_time_for_the_next(database_url: str) -> None:
    """And the next connection begins with the one that answered."""
    live = urlsplit(database_url)
    async with FaultProxy(str(live.hostname), live.port or 5432) as dead:
        dead.black_hole()
        pool = await connect(_settings(database_url.replace("@", f"@{dead.host}:{dead.port},")))
        try:
            await Writer(pool).probe()
            await pool.expire_connections()
            asked = dead.connections
            await Writer(pool).probe()
            assert dead.connections == asked
        finally:
            pool.terminate()


async def test_a_server_that_stays_read_only_pays_no_session_for_each_statement(
    database_url: str,
) -> None:
    server = urlsplit(database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        f"ALTER DATABASE {server.path[1:]} SET default_transaction_read_only = on"
    )
    await connection.close()
    async with FaultProxy(str(server.hostname), server.port or 5432) as proxy:
        pool = await connect(_settings(database_url.replace(f":{server.port}/", f":{proxy.port}/")))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(60):
            with pytest.raises(Outage):
                await Writer(pool).probe()
        pool.terminate()
        assert proxy.connections <= loop.time() - began + 2, "one a second, and the first"


def test_each_host_has_an_address_of_its_own() -> None:
    assert urls_of("postgresql://u:p%40@a:1/d?x=y") == ["postgresql://u:p%40@a:1/d?x=y"]
    assert urls_of("postgresql://u:p%40@a:1,[::1]:2/d?x=y") == [
        "postgresql://u:p%40@a:1/d?x=y",
        "postgresql://u:p%40@[::1]:2/d?x=y",
    ]
    assert urls_of("postgresql:///d?host=a,b&port=1,2&user=u") == [
        "postgresql:///d?host=a&port=1&user=u",
        "postgresql:///d?host=b&port=2&user=u",
    ]
