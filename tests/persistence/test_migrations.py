"""The schema: migrations up and down, models that agree, and a rolling restart that works."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from persistence import migrate
from persistence.database.pool import Pool, connect
from persistence.errors import AnotherApplication, FenceLost
from persistence.schemas import schemas_with_tables
from persistence.settings import PersistenceSettings
from persistence.store.columns import columns
from persistence.store.writer import Writer
from persistence.tables.models import metadata
from tests.persistence.fences import owned
from tests.persistence.samples import message, placed
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.requirements import absent
from transport.errors import ConfigurationError

INSERT_0001 = (Path(__file__).parent / "fixtures" / "insert_0001.sql").read_text()
COLUMNS_0001 = (
    "id", "idempotency_key", "correlation_id", "conversation_id", "sender_id", "client_message_id",
    "recipient_ids", "content", "content_type", "fingerprint", "accepted_at", "log_offset",
)  # fmt: skip


@pytest.fixture
async def empty_url(postgres_server):
    yield await postgres_server.create_database("unmigrated")
    await postgres_server.drop_database("unmigrated")


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows} - {"alembic_version"}


async def differences(url: str) -> list[object]:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), poolclass=NullPool
    )

    def compare(connection) -> list[object]:
        options = {"compare_server_default": True, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, metadata)

    async with engine.connect() as connection:
        found = await connection.run_sync(compare)
    await engine.dispose()
    return found


async def test_migrations_go_up_down_and_up_again(empty_url):
    assert await migrate.current(empty_url) is None
    assert await migrate.upgrade(empty_url) == migrate.latest()
    everything = await tables(empty_url)
    assert {
        "messages", "message_receipts", "dead_letters", "jobs", "fences", "message_positions",
        "migration", "migration_events", "processes", "shadow_gaps",
        "operator_actions", "delivery_attempts", "parity_reports", "log_identities",
        "retired_logs", "log_positions", "log_ends", "tombstones", "row_archives",
        "freed_pages", "sequence_marks", "log_chain",
    } == everything  # fmt: skip
    assert await migrate.downgrade(empty_url, "0001") == "0001"
    assert await tables(empty_url) == {"messages", "message_receipts", "fences"}
    assert await migrate.downgrade(empty_url, "base") is None
    assert await tables(empty_url) == set()
    assert await migrate.upgrade(empty_url) == migrate.latest()
    assert await tables(empty_url) == everything
    assert await migrate.upgrade(empty_url) == migrate.latest()  # nothing to do


async def test_content_is_compressed_with_lz4(database_pool):
    """PostgreSQL's own method takes four times as long."""
    has_it = (
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    )
    if not await database_pool.fetchval(has_it):
        absent("compression of content: this PostgreSQL was built without lz4")
    method = await database_pool.fetchval(
        "SELECT attcompression::text FROM pg_attribute"
        " WHERE attrelid = 'messages'::regclass AND attname = 'content'"
    )
    assert method == "l"


async def test_the_first_rows_of_a_fresh_table_change_no_bloom_filter(empty_url):
    """It would take 14 times the processor time of the rest of their insert."""
    await migrate.upgrade(empty_url)
    pool = await connect(PersistenceSettings(database_url=empty_url))
    fence = await owned(Writer(pool), "redis", 0, 1, "test")
    await Writer(pool).write([placed(message("a"))], fence)
    for name in ("client_message_id", "correlation_id"):
        made = "SELECT brin_summarize_range($1::text::regclass, 0)"  # how many were not there yet
        assert await pool.fetchval(made, f"messages_{name}_bloom_idx") == 1
    pool.terminate()


async def test_bloom_filters_are_made_anew_also_after_an_end_half_way(database_url, database_pool):
    await migrate.downgrade(database_url, "0022")
    await database_pool.execute(
        "ALTER INDEX messages_correlation_id_bloom_idx RENAME TO"
        " messages_correlation_id_bloom_idx_new"
    )
    assert await migrate.upgrade(database_url) == migrate.latest()
    found = await database_pool.fetch(
        "SELECT relname, reloptions FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid"
        " WHERE relname LIKE '%bloom%' AND indisvalid ORDER BY relname"
    )
    assert [tuple(row) for row in found] == [
        ("messages_client_message_id_bloom_idx", ["pages_per_range=8"]),
        ("messages_correlation_id_bloom_idx", ["pages_per_range=8"]),
    ]


async def _add_message(pool: Pool) -> None:
    """As the release of that revision did: the columns that came later are not there yet."""
    await pool.execute(
        "INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,"
        " client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at,"
        " transport, partition, log_offset) VALUES (gen_random_uuid(), 'k', 'r', 'c', 's', 'm',"
        " '{}', '', 'text', 'f', now(), 'redis', 0, '1-0')",
        timeout=20,
    )


async def _beat(pool: Pool) -> None:
    await pool.execute("UPDATE processes SET version = version", timeout=20)


@pytest.mark.parametrize(
    ("revision", "table", "work"),
    [("0018", "messages", _add_message), ("0019", "processes", _beat)],
    ids=["inserts", "heartbeats"],
)
async def test_a_reader_of_the_table_is_waited_for_and_others_pass(
    database_url, database_pool, revision, table, work
):
    """As a dump reads it for hours."""
    await migrate.downgrade(database_url, revision)
    async with database_pool.acquire() as reader, reader.transaction():
        await reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
        upgrading = asyncio.create_task(migrate.upgrade(database_url))
        await eventually(
            lambda: database_pool.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock'"
                " AND NOT granted AND relation = $1::text::regclass)",
                table,
            )
        )
        await work(database_pool)
        assert not upgrading.done()
    assert await upgrading == migrate.latest()


async def test_limits_of_a_user_are_not_those_of_a_migration(empty_url):
    """The user has them where docs/postgresql.md says so; most steps take longer than this one."""
    connection = await asyncpg.connect(empty_url)
    name = empty_url.rpartition("/")[2]
    await connection.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET statement_timeout = 1"
    )
    await connection.close()
    await migrate.upgrade(empty_url)
    assert await migrate.current(empty_url) == migrate.latest()


async def test_models_and_migrations_agree(database_url):
    assert await differences(database_url) == []


async def test_a_disagreement_would_be_seen(database_url, database_pool):
    await database_pool.execute("ALTER TABLE messages DROP COLUMN trace_id")
    await database_pool.execute("DROP INDEX messages_conversation_id_seq_idx")
    kinds = {difference[0] for difference in await differences(database_url)}
    assert kinds == {"add_column", "add_index"}


async def test_processes_that_start_together_migrate_once(empty_url):
    reached = await asyncio.gather(*(migrate.upgrade(empty_url) for _ in range(4)))
    assert set(reached) == {migrate.latest()}


async def test_yesterdays_insert_works_on_todays_schema(database_pool):
    fence = await owned(Writer(database_pool), "redis", 0, 1, "yesterday")
    of_message, _ = columns([placed(message("a")), placed(message("b"))])
    values = of_message.values
    values["accepted_at"] = list(map(datetime.fromisoformat, values["accepted_at"]))
    old = [values[name] for name in COLUMNS_0001]
    row = await database_pool.fetchrow(INSERT_0001, 0, "redis", fence.epoch, *old)
    assert (row["placed"], row["received"]) == (2, 2)
    assert await database_pool.fetchval("SELECT min(attempts) FROM messages") == 1
    # Both releases write side by side, and agree on what is a repeat.
    written = await Writer(database_pool).write([placed(message("a")), placed(message("c"))], fence)
    assert (written.persisted, written.duplicates) == ([1], [0])


async def test_rows_survive_a_step_back_and_forth(database_url, database_pool):
    writer = Writer(database_pool)
    fence = await owned(writer, "redis", 0, 1, "test")
    await writer.write([placed(message("a"))], fence)
    await migrate.downgrade(database_url, "0001")
    await migrate.upgrade(database_url)
    with pytest.raises(FenceLost):
        await writer.write([placed(message("a"))], fence)  # its position is not known any more
    fence = await owned(writer, "redis", 0, 1, "test")
    assert fence.through == ""
    assert (await writer.write([placed(message("a"))], fence)).duplicates == [0]


async def test_a_step_back_that_would_misread_the_migration_is_refused_in_one_line(
    empty_url, tmp_path
):
    """The version before 0012 knows the migration from Redis to Kafka only."""
    await migrate.upgrade(empty_url)
    connection = await asyncpg.connect(empty_url)
    await connection.execute(
        "INSERT INTO migration (id, phase, target, epoch, changed_by, why, old_log, new_log)"
        " VALUES (1, 3, 3, 7, 'op', 'x', 'redis', 'redis@32')"
    )
    down = await Crossfade.fork(
        "db", "downgrade", "0011", "--yes", cwd=tmp_path, DATABASE_URL=empty_url
    )
    assert await down.ends() == 2
    assert "the migration is from redis to redis@32" in down.text
    assert "crossfade migrate run --to redis --why" in " ".join(down.lines)
    assert "Traceback" not in down.text
    assert await migrate.current(empty_url) == "0012"
    await connection.execute("UPDATE migration SET phase = 0, target = 0, old_log = 'kafka'")
    await migrate.downgrade(empty_url, "0011")
    row = await connection.fetchrow("SELECT * FROM migration")
    assert (row["phase"], row["target"], "old_log" in row) == (5, 5, False), "Kafka alone"
    await connection.close()


@pytest.fixture
async def owner(empty_url: str):
    """A role that may make schemas and tables. Its name is as a cloud gives them: quoted."""
    name = f'"owner@{empty_url.rpartition("/")[2]}.iam"'
    for statement in (
        f"CREATE ROLE {name} LOGIN",
        f"GRANT CREATE ON DATABASE unmigrated TO {name}",
        f"GRANT ALL ON SCHEMA public TO {name}",
    ):
        await _execute(empty_url, statement)
    yield name
    await _execute(empty_url, f"DROP OWNED BY {name}; DROP ROLE {name}")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _as(role: str, url: str) -> str:
    user = quote(role.strip('"'), safe="")
    return re.sub("//[^@]*@", f"//{user}@", url)


async def _schemas(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return await schemas_with_tables(connection)
    finally:
        await connection.close()


async def test_no_second_set_of_tables_is_made_unless_it_is_asked_for(
    empty_url: str, owner: str
) -> None:
    """A role whose search_path has not the schema that has the tables."""
    await migrate.upgrade(empty_url)
    await _execute(empty_url, f'CREATE SCHEMA "Theirs" AUTHORIZATION {owner}')
    await _execute(empty_url, f'ALTER ROLE {owner} SET search_path = "Theirs"')
    refused = (
        '(?s)in schema public of database unmigrated.*made in schema "Theirs".*'
        f"ALTER ROLE {owner} SET search_path = public.*options=-csearch_path%3D%22Theirs%22"
    )
    with pytest.raises(ConfigurationError, match=refused):
        await migrate.upgrade(_as(owner, empty_url))
    assert await _schemas(empty_url) == ["public"]
    asked = f"{_as(owner, empty_url)}?options=-csearch_path%3D%22Theirs%22"
    assert await migrate.upgrade(asked) == migrate.latest()
    assert await _schemas(empty_url) == ['"Theirs"', "public"]
    assert await migrate.upgrade(_as(owner, empty_url)) == migrate.latest(), "its own are there"


async def test_tables_of_another_application_are_left_alone(empty_url: str) -> None:
    """As Prisma makes them: the guide's database has a table ``messages`` already."""
    await _execute(empty_url, 'CREATE TABLE messages (id text PRIMARY KEY, "senderId" text)')
    await _execute(empty_url, "INSERT INTO messages VALUES ('theirs')")
    told = "another application with the names of ours: messages. .*search_path%3Dcrossfade"
    with pytest.raises(ConfigurationError, match=told):
        await migrate.upgrade(empty_url)
    assert await migrate.current(empty_url) is None
    await _execute(empty_url, "CREATE SCHEMA crossfade")
    beside = f"{empty_url}?options=-csearch_path%3Dcrossfade"
    assert await migrate.upgrade(beside) == migrate.latest()
    assert await _schemas(empty_url) == ["crossfade"]
    connection = await asyncpg.connect(empty_url)
    assert await connection.fetchval("SELECT id FROM public.messages") == "theirs"
    await connection.close()


@pytest.mark.parametrize("theirs", ["3f2a9c1d7e55", "0003", "0028", "9999"])
async def test_the_revision_of_another_application_is_not_taken_for_ours(
    empty_url: str, theirs: str
) -> None:
    """Every application with Alembic has its revision in ``alembic_version``."""
    await _execute(empty_url, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    await _execute(empty_url, f"INSERT INTO alembic_version VALUES ('{theirs}')")
    told = f"another application's .it has {theirs}.* CREATE SCHEMA crossfade, and add options="
    for refused in (
        migrate.upgrade(empty_url),
        migrate.downgrade(empty_url, "base"),
        migrate.steps_down(empty_url, "base"),
        migrate.current(empty_url),
    ):
        with pytest.raises(AnotherApplication, match=told):
            await refused
    await _execute(empty_url, "CREATE SCHEMA crossfade")
    beside = f"{empty_url}?options=-csearch_path%3Dcrossfade"
    assert await migrate.upgrade(beside) == migrate.latest()
    await migrate.downgrade(beside, "base")
    assert await migrate.current(beside) is None
    connection = await asyncpg.connect(empty_url)
    kept = await connection.fetch("SELECT version_num FROM public.alembic_version")
    await connection.close()
    assert [row["version_num"] for row in kept] == [theirs]


async def test_a_role_that_may_use_no_schema_is_told_so(empty_url: str, owner: str) -> None:
    await _execute(empty_url, f"REVOKE ALL ON SCHEMA public FROM PUBLIC, {owner}")
    told = f"{owner} may use no schema .* GRANT USAGE, CREATE ON SCHEMA public TO {owner}, or"
    with pytest.raises(ConfigurationError, match=told):
        await migrate.upgrade(_as(owner, empty_url))
    await _execute(empty_url, f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}")
    assert await migrate.upgrade(_as(owner, empty_url)) == migrate.latest()


async def test_a_role_that_may_make_no_tables_is_told_so(empty_url: str, owner: str) -> None:
    """As of PostgreSQL 15, ``GRANT ALL ON DATABASE`` lets nobody make tables in public."""
    await _execute(empty_url, f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {owner}")
    told = f"{owner} may not create tables in schema public .* GRANT CREATE ON SCHEMA public TO"
    with pytest.raises(ConfigurationError, match=told):
        await migrate.upgrade(_as(owner, empty_url))
    await _execute(empty_url, f"GRANT CREATE ON SCHEMA public TO {owner}")
    assert await migrate.upgrade(_as(owner, empty_url)) == migrate.latest()


@pytest.mark.parametrize(
    ("schema", "setting"),
    [('"Chat"', "SELECT 1"), ("chat", "ALTER ROLE {} SET quote_all_identifiers = on")],
    ids=["quoted", "all quoted"],
)
async def test_a_new_release_finds_its_tables_in_a_schema_whose_name_is_quoted(
    empty_url: str, owner: str, schema: str, setting: str
) -> None:
    await _execute(empty_url, f"CREATE SCHEMA {schema} AUTHORIZATION {owner}")
    await _execute(empty_url, f"ALTER ROLE {owner} SET search_path = {schema}")
    await migrate.upgrade(_as(owner, empty_url), "0003")
    await _execute(empty_url, setting.format(owner))
    assert await migrate.upgrade(_as(owner, empty_url)) == migrate.latest()


async def test_no_new_table_is_made_in_another_schema_than_the_others_are_in(
    empty_url: str, owner: str
) -> None:
    """A schema of the role's own name comes first in every search_path."""
    await migrate.upgrade(_as(owner, empty_url), "0003")
    await _execute(empty_url, f"CREATE SCHEMA {owner} AUTHORIZATION {owner}")
    refused = (
        f"in schema public of.*made in schema {owner},.*ALTER ROLE {owner} SET search_path = public"
    )
    with pytest.raises(ConfigurationError, match=refused):
        await migrate.upgrade(_as(owner, empty_url))
    assert await migrate.current(empty_url) == "0003"
    await _execute(empty_url, f"ALTER ROLE {owner} SET search_path = public")
    assert await migrate.upgrade(_as(owner, empty_url)) == migrate.latest()
    assert await _schemas(empty_url) == ["public"]
