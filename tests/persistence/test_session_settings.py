"""Parameters that an administrator gave the role, and that our statements can't work with."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from persistence.database.pool import Pool, connect, using
from persistence.errors import Outage, TooSlow
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.fences import owned
from tests.persistence.loglib import append, lag
from tests.persistence.samples import message, placed
from tests.support.eventually import eventually
from tests.support.pgbouncer import Pgbouncer, needs_prepared_statements
from tests.support.postgres_pair import DATABASE, pair, run

_OTHERS = {
    "default_transaction_isolation": "serializable",
    "array_nulls": "off",
    "lock_timeout": "1",
    "idle_session_timeout": "500",
    "enable_bitmapscan": "off",
}


async def strange(pool: Pool, database: str) -> None:
    """Give every session of a database parameters as few have them."""
    others = dict(_OTHERS)
    if await pool.fetchval("SELECT current_setting('transaction_timeout', true)"):
        others["transaction_timeout"] = "100"
    for name, value in others.items():
        await pool.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")


async def pool_of(url: str, **more: object) -> Pool:
    return await connect(PersistenceSettings(database_url=SecretStr(url), **more))


async def test_rows_are_inserted_whatever_a_database_is_set_to(database_url, database_pool):
    await strange(database_pool, database_url.rpartition("/")[2])
    pool = await pool_of(database_url)
    try:
        fence = await owned(Writer(pool), "redis", 0, 1, "test")  # its position may be unknown
        # Statements of one conversation wait for each other.
        batches = [[placed(message(f"{n} {m}")) for m in range(20)] for n in range(20)]
        done = await asyncio.gather(*(Writer(pool).write(batch, None) for batch in batches))
        assert [len(written.persisted) for written in done] == [20] * 20
        async with using(pool) as connection:
            await asyncio.sleep(0.7)  # longer than a session may be idle, or a transaction last
            await connection.execute("SELECT pg_sleep(0.3)")
            plan = await connection.fetch("EXPLAIN SELECT FROM messages WHERE created_at > now()")
            assert "Bitmap Index Scan on messages_created_at_idx" in str(plan)
        await Writer(pool).write([placed(message("last"))], fence)
    finally:
        await pool.close()
    with contextlib.suppress(asyncpg.PostgresError):  # the test's own sessions may have ended
        await database_pool.expire_connections()
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 401


async def test_tables_in_a_schema_that_the_role_was_given_since_are_found(
    database_url, database_pool
):
    """A session keeps the ``search_path`` that it began with."""
    database = database_url.rpartition("/")[2]
    pool = await pool_of(database_url)
    try:
        writer = Writer(pool)
        await writer.write([placed(message("first"))], None)
        await database_pool.execute("ALTER SCHEMA public RENAME TO moved")
        with pytest.raises(Outage, match="42P01"):
            await writer.write([placed(message("second"))], None)
        await database_pool.execute(f"ALTER DATABASE {database} SET search_path = moved")

        async def is_written() -> bool:
            with contextlib.suppress(Outage):
                return bool((await writer.write([placed(message("second"))], None)).persisted)
            return False

        await eventually(is_written)
    finally:
        await pool.close()


async def test_a_standby_is_read_where_serializable_is_the_default(migrated_postgres, tmp_path):
    async with pair(migrated_postgres, tmp_path) as servers:
        alter = f"ALTER DATABASE {DATABASE} SET default_transaction_isolation = serializable"
        await run(servers.primary, alter)

        async def refuses() -> bool:
            try:
                await run(servers.standby, "SELECT count(*) FROM messages")
            except asyncpg.FeatureNotSupportedError:
                return True
            return False

        await eventually(refuses)
        pool = await pool_of(servers.standby.url_of(DATABASE))
        async with using(pool) as connection:
            assert await connection.fetchval("SELECT count(*) FROM messages") == 0
        await pool.close()


async def test_behind_a_pooler_in_transaction_mode_the_remedy_is_said(
    postgres_server, database_url, database_pool, tmp_path
):
    needs_prepared_statements()
    database = database_url.rpartition("/")[2]
    await strange(database_pool, database)
    pooler = Pgbouncer(tmp_path / "pooler", postgres_server, mode="transaction", statements=200)
    await pooler.start()
    try:
        pool = await pool_of(pooler.url_of(database), database_direct_url=SecretStr(database_url))
        with capture_logs() as logs:
            async with using(pool):
                pass
        await pool.close()
        (told,) = [line["remedy"] for line in logs if line["log_level"] == "warning"]
        assert "SET default_transaction_isolation = 'read committed';" in told
    finally:
        await pooler.stop()


async def test_a_statement_that_is_given_up_leaves_no_session(database_url, database_pool):
    await database_pool.execute("CREATE TABLE held AS SELECT 1 AS n")
    pool = await pool_of(database_url)
    try:
        async with database_pool.acquire() as blocker, blocker.transaction():
            await blocker.execute("LOCK TABLE held")
            with pytest.raises(TooSlow):
                async with using(pool) as connection:
                    await connection.fetchval("SELECT n FROM held", timeout=0.5)

            async def none_waits() -> bool:
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1"
                relation = await blocker.fetchval("SELECT 'held'::regclass::oid")
                return not await blocker.fetchval(waiting, relation)

            assert not await none_waits()
            await eventually(none_waits)  # statement_timeout is 30 s
    finally:
        await pool.close()


async def test_a_statement_that_needs_more_than_its_role_may_use_is_made_smaller(
    database_url, database_pool, start, transport
):
    """``temp_file_limit`` bounds what a statement writes to the disk beyond ``work_mem``."""
    database = database_url.rpartition("/")[2]
    await database_pool.execute(f"ALTER DATABASE {database} SET work_mem = '64kB'")
    await database_pool.execute(f"ALTER DATABASE {database} SET temp_file_limit = '300kB'")
    await append(transport, *(message(f"{n:03}", content="x" * 3000) for n in range(200)))
    pool = await pool_of(database_url)
    try:
        worker = start(pool=pool, stream_batch_size=200)

        async def persisted() -> bool:
            return await lag(transport) == 0

        await eventually(persisted)
        assert worker.count("error")
        await worker.stop()
    finally:
        await pool.close()
    rows = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    assert [row["client_message_id"] for row in rows] == [f"{n:03}" for n in range(200)]
