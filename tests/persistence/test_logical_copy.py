"""A service whose tables are published, and its move to a server that copied them so.

This is how major versions of PostgreSQL are upgraded with hardly a pause, and how changes of rows
are captured.
"""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from persistence import migrate
from persistence.database.pool import using
from persistence.errors import Outage, Unexpected
from persistence.store.writer import Writer
from tests.persistence.samples import message, placed
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

pytestmark = pytest.mark.timeout(180)

_FILTERS_FROM = 150_000
_LOGICAL = {"wal_level": "logical"}
_READ_ONLY = """
ALTER DATABASE crossfade SET default_transaction_read_only = on;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_COPIED = """
SELECT count(*) FILTER (WHERE srsubstate <> 'r') = 0
    AND (SELECT latest_end_lsn FROM pg_stat_subscription WHERE relid IS NULL) >= $1::text::pg_lsn
FROM pg_subscription_rel
"""


async def ask(url: str, query: str, *arguments: object) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def execute(url: str, script: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def with_empty_tables(url: str) -> None:
    """Make the tables, without the few rows that a new schema has: they are copied too."""
    await migrate.upgrade(url)
    await execute(url, "DELETE FROM alembic_version; DELETE FROM migration")


async def post(api: httpx.AsyncClient, number: int, *, status: int = 202) -> None:
    answer = await api.post(
        "/api/messages",
        json={
            "conversationId": "conv", "senderId": "alice", "clientMessageId": f"{number}",
            "content": "hello", "contentType": "text", "recipientIds": ["bob"],
        },
    )  # fmt: skip
    assert answer.status_code == status, answer.text


async def test_a_published_service_moves_to_its_copy(new_postgres, redis_settings, tmp_path):
    """Clients are accepted all the time, and rows stand in their order."""
    old, new = await new_postgres(**_LOGICAL), await new_postgres(**_LOGICAL)
    source = await old.create_database("crossfade")
    await migrate.upgrade(source)
    await execute(source, "CREATE PUBLICATION everything FOR ALL TABLES")
    service = ForkedService(
        "moving",
        "serve",
        tmp_path,
        {
            "DATABASE_URL": source,
            "REDIS_HOST": redis_settings.redis_host,
            "REDIS_PORT": str(redis_settings.redis_port),
            "STREAM_POLL_INTERVAL_MS": "200",
        },
    )
    await service.start()
    try:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as api:
            for number in range(20):
                await post(api, number)
            await eventually(lambda: rows(source, 20))

            copy = await new.create_database("crossfade")
            await with_empty_tables(copy)
            await execute(
                copy, f"CREATE SUBSCRIPTION copy CONNECTION '{source}' PUBLICATION everything"
            )
            await post(api, 20)
            await eventually(lambda: rows(source, 21))
            await eventually(lambda: ask(source, "SELECT true FROM sequence_marks"))

            await execute(source, _READ_ONLY)
            at = await ask(source, "SELECT pg_current_wal_lsn()::text")
            await post(api, 21)  # waits in the log
            await eventually(lambda: ask(copy, _COPIED, at))
            await execute(copy, "DROP SUBSCRIPTION copy")
            await service.restart(DATABASE_URL=copy)

        async with httpx.AsyncClient(base_url=service.url, timeout=30) as api:
            for number in range(22, 40):
                await post(api, number)
            await post(api, 3, status=200)  # a repeat of a copied row
            await eventually(lambda: rows(copy, 40))
            page = (await api.get("/api/conversations/conv/messages?limit=100")).json()
            assert [item["clientMessageId"] for item in page["items"]] == [
                str(number) for number in range(40)
            ]
    finally:
        await service.stop()


async def rows(url: str, count: int) -> bool:
    return await ask(url, "SELECT count(*) FROM messages") == count


async def test_a_publication_that_lets_nobody_delete_rows_is_told(database_pool):
    """PostgreSQL's own message says nothing of a publication."""
    version = await database_pool.fetchval("SELECT current_setting('server_version_num')::int")
    if version < _FILTERS_FROM:
        pytest.skip("PostgreSQL 15 or later has publications of some rows")
    await Writer(database_pool).write([placed(message("one"))], None)
    await database_pool.execute(
        "CREATE PUBLICATION alices FOR TABLE messages WHERE (sender_id = 'alice')"
    )
    try:
        with pytest.raises(Outage, match="publish inserts alone") as refused:
            await deleted(database_pool)
        assert not isinstance(refused.value, Unexpected)
        await database_pool.execute("ALTER PUBLICATION alices SET (publish = 'insert')")
        await deleted(database_pool)
    finally:
        await database_pool.execute("DROP PUBLICATION alices")


async def deleted(pool: asyncpg.Pool) -> None:
    async with using(pool) as connection:
        await connection.execute("DELETE FROM messages")
