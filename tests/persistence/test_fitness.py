"""Servers that speak PostgreSQL's protocol and can't be used: told by name, with the remedy."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from compose.local.binaries import Binary
from compose.local.ports import free_port
from compose.local.postgres import PostgresServer
from compose.local.server import ServerError
from persistence.database.failover import pooling_of
from persistence.database.fitness import Pooling, unset_parameters
from persistence.database.pool import connect, session_settings, using
from persistence.database.translation import translated
from persistence.errors import Crowded, Outage, UnfitDatabase
from persistence.fleet.leader_lock import elected
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.fences import owned
from tests.persistence.samples import message, placed
from tests.support.crossfade import Crossfade
from tests.support.pgbouncer import Pgbouncer, needs_prepared_statements
from tests.support.postgres_versions import programs_of
from tests.support.requirements import absent

_COCKROACH = """
CREATE FUNCTION public.version() RETURNS text LANGUAGE sql
AS $$ SELECT 'CockroachDB CCL v24.3.1 (x86_64-pc-linux-gnu)' $$
"""


def settings(url: str, **more) -> PersistenceSettings:
    return PersistenceSettings(database_url=SecretStr(url), **more)


async def refusal(url: str, **more) -> str:
    pool = await connect(settings(url, **more))
    try:
        with pytest.raises(UnfitDatabase) as refused:
            async with using(pool):
                pass
        return str(refused.value)
    finally:
        pool.terminate()


@pytest.fixture
def database(database_url: str) -> str:
    return database_url.rpartition("/")[2]


@pytest.fixture
async def pgbouncer(postgres_server, tmp_path):
    if not isinstance(postgres_server, PostgresServer):
        pytest.skip("it is put before a server of ours")
    started: list[Pgbouncer] = []

    async def start(mode: str, **more) -> Pgbouncer:
        made = Pgbouncer(tmp_path / f"pgbouncer{len(started)}", postgres_server, mode=mode, **more)
        started.append(made)
        await made.start()
        return made

    yield start
    for pooler in started:
        await pooler.stop()


async def test_a_pooler_in_transaction_mode_is_refused_with_the_remedy(pgbouncer, database) -> None:
    text = await refusal((await pgbouncer("transaction")).url_of(database))
    assert "a pooler in transaction mode that loses prepared statements" in text
    assert "pool_mode=session" in text
    assert "DATABASE_DIRECT_URL" in text
    assert "1.21" in text


async def test_a_pooler_in_statement_mode_is_refused_with_the_remedy(pgbouncer, database) -> None:
    url = (await pgbouncer("statement")).url_of(database)
    text = await refusal(url)
    assert "a pooler in statement mode" in text
    assert "pool_mode=session" in text
    session = await asyncpg.connect(url)
    with pytest.raises(Outage, match="transaction blocks not allowed"), translated():
        await session.execute("BEGIN")


async def test_a_pooler_that_is_full_crowds_a_process_out(pgbouncer, database) -> None:
    """So a worker gives its partitions to processes that have connections."""
    pooler = await pgbouncer("session", clients=1)
    taken = await asyncpg.connect(pooler.url_of(database))
    pool = await connect(settings(pooler.url_of(database)))
    try:
        with pytest.raises(Crowded, match="max_client_conn, which has to allow"):
            async with using(pool):
                pass
    finally:
        pool.terminate()
        await taken.close()


async def test_a_process_does_not_start_behind_it(
    pgbouncer, database, redis_settings, tmp_path
) -> None:
    bouncer = await pgbouncer("transaction")
    process = await Crossfade.fork(
        "worker",
        cwd=tmp_path,
        DATABASE_URL=bouncer.url_of(database),
        REDIS_HOST=redis_settings.redis_host,
        REDIS_PORT=str(redis_settings.redis_port),
        METRICS_PORT=str(free_port()),
    )
    assert await process.ends() != 0
    assert "pool_mode=session" in " ".join(process.text.split())
    assert "Traceback" not in process.text


async def test_a_pooler_in_session_mode_is_used_and_keeps_nothing_back(
    pgbouncer, database, database_pool
) -> None:
    """It ignored what a session is started with; that is set afterwards."""
    pool = await connect(settings((await pgbouncer("session")).url_of(database)))
    try:
        async with using(pool) as connection:
            for name, value in (
                ("statement_timeout", "30s"), ("enable_seqscan", "off"), ("jit", "off"),
                ("idle_in_transaction_session_timeout", "1min"),
            ):  # fmt: skip
                assert await connection.fetchval(f"SHOW {name}") == value
        async with elected(pool, "one") as first, elected(pool, "one") as second:
            assert first is not None
            assert second is None
        fence = await owned(Writer(pool), "redis", 0, 1, "test")
        await asyncio.gather(
            *(Writer(pool).write([placed(message(f"m{n}", f"c{n}"))], None) for n in range(20))
        )
        await Writer(pool).write([placed(message("last"))], fence)
    finally:
        await pool.close()
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 21


async def test_a_pooler_that_refuses_the_start_of_a_session_says_what_to_ignore(
    pgbouncer, database
) -> None:
    text = await refusal((await pgbouncer("session", ignore="options")).url_of(database))
    assert "ignore_startup_parameters = application_name, enable_seqscan" in text


async def test_a_pooler_whose_mode_is_changed_while_it_is_used_is_told(pgbouncer, database) -> None:
    """And used again once it is changed back, with nothing restarted."""
    bouncer = await pgbouncer("session")
    pool = await connect(settings(bouncer.url_of(database)))
    try:
        async with using(pool) as connection:
            await connection.fetchval("SELECT 1")
        await bouncer.stop()
        bouncer.set_mode("transaction")
        await bouncer.start()

        async def hurried() -> None:
            async with using(pool) as connection:
                for n in range(40):
                    await connection.fetchval(f"SELECT {n % 7}, pg_sleep(0.001)")

        errors = await asyncio.gather(*(hurried() for _ in range(8)), return_exceptions=True)
        told = [str(error) for error in errors if isinstance(error, UnfitDatabase)]
        assert told
        assert "a prepared statement is not there any more" in told[0]
    finally:
        pool.terminate()


async def test_locks_that_a_session_holds_are_taken_past_the_pooler(
    pgbouncer, database, database_url
) -> None:
    direct = SecretStr(database_url)
    bouncer = await pgbouncer("session")
    pool = await connect(settings(bouncer.url_of(database), database_direct_url=direct))
    try:
        async with elected(pool, "one") as first, elected(pool, "one") as second:
            assert first is not None
            assert second is None
            pid = await first.fetchval("SELECT pg_backend_pid()")
            assert first.get_server_pid() == pid, "past the pooler"
        async with elected(pool, "one") as again:
            assert again is not None
    finally:
        await pool.close()


async def test_transaction_mode_that_keeps_statements_is_used_with_a_direct_address(
    pgbouncer, database, database_url
) -> None:
    needs_prepared_statements()
    bouncer = await pgbouncer("transaction", statements=200)
    assert "a pooler in transaction mode, which keeps no session's locks" in await refusal(
        bouncer.url_of(database)
    )
    pooled = settings(bouncer.url_of(database), database_direct_url=SecretStr(database_url))
    with capture_logs() as logs:
        pool = await connect(pooled)
        async with using(pool) as connection:
            assert pooling_of(connection) is Pooling.TRANSACTION
    await pool.close()
    (told,) = [line for line in logs if line["log_level"] == "warning"]
    direct = await asyncpg.connect(database_url)
    await direct.execute(told["remedy"])
    await direct.close()
    await bouncer.stop()
    await bouncer.start()
    pool = await connect(pooled)
    try:
        async with using(pool) as connection:
            assert await connection.fetchval("SHOW enable_seqscan") == "off"
            assert await connection.fetchval("SHOW statement_timeout") == "30s"
            assert not await unset_parameters(connection, session_settings(pooled))
    finally:
        await pool.close()


async def test_what_reads_all_rows_goes_past_a_pooler_that_keeps_no_settings(
    pgbouncer, database, database_url
) -> None:
    needs_prepared_statements()
    bouncer = await pgbouncer("transaction", statements=200)
    direct = SecretStr(database_url)
    pool = await connect(settings(bouncer.url_of(database), database_direct_url=direct), scans=True)
    try:
        async with using(pool) as connection:
            assert pooling_of(connection) is Pooling.NONE
            assert await connection.fetchval("SHOW enable_seqscan") == "on"
    finally:
        await pool.close()


async def posing(url: str, *statements: str) -> None:
    """Have a database answer as another engine does."""
    connection = await asyncpg.connect(url)
    name = url.rpartition("/")[2]
    for statement in (*statements, f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog'):
        await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (
            _COCKROACH,
            "CockroachDB, which has no advisory locks",
        ),
        ("CREATE SCHEMA sys; CREATE TABLE sys.jobs ()", "Aurora DSQL, which has no sequences"),
        (
            "CREATE TABLE public.pg_extension AS SELECT 'citus'::name AS extname",
            "the extension citus",
        ),
    ],
)
async def test_an_engine_that_lacks_what_is_needed_is_refused_by_name(
    statement: str, name: str, postgres_server
) -> None:
    url = await postgres_server.create_database("posing")
    try:
        await posing(url, statement)
        assert name in await refusal(url)
    finally:
        await postgres_server.drop_database("posing")


async def test_an_encoding_without_a_place_for_every_character_is_refused(postgres_server) -> None:
    """A message with another character would be accepted, and never stored."""
    server = await asyncpg.connect(postgres_server.url)
    made = "CREATE DATABASE {} ENCODING '{}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    try:
        for name, encoding in (("narrow", "LATIN1"), ("bytes", "SQL_ASCII")):
            await server.execute(made.format(name, encoding))
        text = await refusal(postgres_server.url.rpartition("/")[0] + "/narrow")
        assert text.startswith("DATABASE_URL leads to a server that can't be used: its encoding is")
        assert "LATIN1" in text
        assert "ENCODING 'UTF8' TEMPLATE template0" in text
        pool = await connect(settings(postgres_server.url.rpartition("/")[0] + "/bytes"))
        async with using(pool) as connection:
            said = "\N{GRINNING FACE}"
            assert await connection.fetchval("SELECT $1 || ''", said) == said
        await pool.close()
    finally:
        for name in ("narrow", "bytes"):
            await postgres_server.drop_database(name)
        await server.close()


async def test_a_version_that_is_too_old_is_refused_by_name(tmp_path) -> None:
    try:
        programs = await asyncio.to_thread(programs_of, "13.23.0")
    except ServerError as error:
        absent(f"PostgreSQL 13: {error}")
    old = PostgresServer(
        tmp_path / "old" / "data", binary=Binary("postgres", programs / "postgres", (13, 23))
    )
    async with old:
        assert "it is PostgreSQL 13, and 14 or later is needed" in await refusal(old.url)
