"""``crossfade doctor`` on a PostgreSQL that is not as it should be."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import pytest_asyncio

from compose.local.postgres import PostgresServer
from persistence import migrate
from persistence.database.pool import Pool
from tests.support.doctor import Doctor
from tests.support.pgbouncer import Pgbouncer, needs_prepared_statements
from tests.support.postgres_pair import DATABASE, pair, run
from tests.support.requirements import absent
from transport.settings import TransportSettings


async def test_a_primary_that_was_replaced_and_goes_on_taking_writes_is_bad(
    doctor: Doctor, migrated_postgres: Path, tmp_path: Path
) -> None:
    async with pair(migrated_postgres, tmp_path / "pair") as servers:
        await servers.promote()
        status, found = await doctor.examine(DATABASE_URL=servers.url)
    assert status == 1
    told = found["postgresql, replaced"]
    assert f":{servers.primary.port} goes on taking writes" in told["found"]


async def test_a_slot_that_nobody_reads_may_fill_the_disk(
    doctor: Doctor, migrated_postgres: Path, tmp_path: Path
) -> None:
    what = "postgresql, replication slots"
    async with pair(migrated_postgres, tmp_path / "pair") as servers:
        for server in (servers.primary, servers.standby):
            await run(server, "SELECT pg_create_physical_replication_slot('gone', true)")
        _, found = await doctor.examine(DATABASE_URL=servers.url)
        assert found[what]["grade"] == "warning"
        assert "without a limit, and nobody reads it" in found[what]["found"]
        assert "SELECT pg_drop_replication_slot('gone')" in found[what]["remedy"]
        _, found = await doctor.examine(DATABASE_URL=servers.standby.url_of(DATABASE))
        assert found["postgresql, role"]["grade"] == "bad"
        assert "postgresql, connection" not in found, "a standby has no place in the WAL to compare"
        await run(servers.primary, "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
        await run(servers.primary, "SELECT pg_reload_conf()")
        _, found = await doctor.examine(DATABASE_URL=servers.url)
    assert what not in found


async def test_the_address_of_reads_is_looked_at(
    doctor: Doctor, log: TransportSettings, database_url: str
) -> None:
    status, found = await doctor.examine(DATABASE_READ_URL=database_url)
    assert (status, found["postgresql reads, role"]["grade"]) == (0, "fine")
    nowhere = re.sub("@[^/]*/", "@127.0.0.1:1/", database_url)
    status, found = await doctor.examine(DATABASE_READ_URL=nowhere)
    assert (status, found["postgresql reads, connection"]["grade"]) == (1, "bad")
    assert "DATABASE_READ_URL" in found["postgresql reads, connection"]["remedy"]
    assert "check DATABASE_READ_URL" in found["postgresql reads, connection"]["found"]
    empty = database_url.rpartition("/")[0] + "/postgres"
    status, found = await doctor.examine(DATABASE_READ_URL=empty)
    assert (status, found["postgresql reads, schema"]["grade"]) == (1, "bad")


async def test_a_schema_of_a_newer_version_is_fine(
    doctor: Doctor, log: TransportSettings, database_pool: Pool
) -> None:
    """The version before works with it, so nothing has to be mended after going back."""
    await database_pool.execute("UPDATE alembic_version SET version_num = '9999'")
    status, found = await doctor.examine()
    schema = found["postgresql, schema"]
    assert (status, schema["grade"]) == (0, "fine")
    assert schema["found"].startswith("at 9999, of a newer version")


async def test_a_database_that_is_overtaxed_or_down_does_not_hide_the_rest(
    doctor: Doctor, log: TransportSettings, new_postgres: Callable[..., Awaitable[PostgresServer]]
) -> None:
    server = await new_postgres()
    connection = await asyncpg.connect(server.url)
    with pytest.raises(asyncpg.OutOfMemoryError):
        await connection.execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) n")
    _, found = await doctor.examine(DATABASE_URL=server.url)
    assert "raise max_locks_per_transaction" in found["postgresql, connection"]["found"]
    assert found["postgresql, connection"]["remedy"].startswith("change it as the text says;")
    await connection.close()
    await server.stop()
    status, found = await doctor.examine(DATABASE_URL=server.url)
    assert status == 1
    assert found["postgresql, connection"]["grade"] == "bad"
    assert found["log redis, records"]["grade"] == "fine"


async def test_a_user_without_rights_and_a_database_without_a_schema_are_bad(
    doctor: Doctor, database_pool: Pool, database_url: str
) -> None:
    role = f"reader_{database_url.rpartition('/')[2]}"
    await database_pool.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a'")
    try:
        await database_pool.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        limited = re.sub("//[^@]*@", f"//{role}:a@", database_url)
        status, found = await doctor.examine(DATABASE_URL=limited)
        assert status == 1
        assert "lacks INSERT, UPDATE, DELETE on" in found["postgresql, rights"]["found"]
        await database_pool.execute(found["postgresql, rights"]["remedy"])
        _, found = await doctor.examine(DATABASE_URL=limited)
        assert found["postgresql, rights"]["found"] == f"{role} may not create tables here"
    finally:
        await database_pool.execute(f"DROP OWNED BY {role}")
        await database_pool.execute(f"DROP ROLE {role}")
    empty = database_url.rpartition("/")[0] + "/postgres"
    status, found = await doctor.examine(DATABASE_URL=empty)
    assert status == 1
    remedy = found["postgresql, schema"]["remedy"]
    assert "crossfade db upgrade" in remedy
    assert "DATABASE_URL should name the database that has them" in remedy


async def test_a_database_with_namesakes_of_our_tables_is_told_with_its_remedy(
    doctor: Doctor, postgres_server: PostgresServer
) -> None:
    url = await postgres_server.create_database("of_prisma")
    try:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE messages (id text PRIMARY KEY)")
        await connection.close()
        _, found = await doctor.examine(DATABASE_URL=url)
    finally:
        await postgres_server.drop_database("of_prisma")
    assert found["postgresql, schema"]["found"].endswith("with the names of ours: messages")
    assert "CREATE SCHEMA crossfade" in found["postgresql, schema"]["remedy"]


async def test_the_revision_of_another_application_is_told_with_its_remedy(
    doctor: Doctor, postgres_server: PostgresServer
) -> None:
    url = await postgres_server.create_database("of_alembic")
    try:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        await connection.execute("INSERT INTO alembic_version VALUES ('9f3c')")
        await connection.close()
        status, found = await doctor.examine(DATABASE_URL=url)
    finally:
        await postgres_server.drop_database("of_alembic")
    assert status == 1
    assert "another application's (it has 9f3c)" in found["postgresql, schema"]["found"]


async def test_a_role_that_may_make_no_tables_is_not_sent_to_the_upgrade(
    doctor: Doctor, postgres_server: PostgresServer, database_pool: Pool
) -> None:
    """As of PostgreSQL 15, ``GRANT ALL ON DATABASE`` lets nobody make tables in public."""
    empty = await postgres_server.create_database("unmade")
    await database_pool.execute("CREATE ROLE stranger LOGIN")
    try:
        connection = await asyncpg.connect(empty)
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        await connection.close()
        status, found = await doctor.examine(DATABASE_URL=_as("stranger", empty))
    finally:
        await postgres_server.drop_database("unmade")
        await database_pool.execute("DROP ROLE stranger")
    assert status == 1
    schema = found["postgresql, schema"]
    assert schema["found"].endswith("database unmade, and stranger may not create tables there")
    assert schema["remedy"].startswith("GRANT CREATE ON SCHEMA public TO stranger")


@pytest_asyncio.fixture
async def role(database_pool: Pool, database_url: str) -> AsyncIterator[str]:
    """A role that may use all tables, and owns none. Its name is as a cloud gives them: quoted."""
    name = f'"user@{database_url.rpartition("/")[2]}.iam"'
    await database_pool.execute(f"CREATE ROLE {name} LOGIN")
    for every in ("TABLES", "SEQUENCES"):
        await database_pool.execute(f"GRANT ALL ON ALL {every} IN SCHEMA public TO {name}")
    yield name
    await database_pool.execute(f"DROP OWNED BY {name}")
    await database_pool.execute(f"DROP ROLE {name}")


def _as(role: str, url: str) -> str:
    user = quote(role.strip('"'), safe="")
    return re.sub("//[^@]*@", f"//{user}@", url)


@pytest.mark.parametrize(
    ("change", "what", "found", "remedy"),
    [
        (
            "REVOKE SELECT ON alembic_version FROM {role}",
            "rights",
            "{role} lacks SELECT on alembic_version",
            "GRANT SELECT ON alembic_version TO {role}",
        ),
        (
            "REVOKE UPDATE ON fences FROM {role}",
            "rights",
            "{role} lacks UPDATE on fences",
            "GRANT UPDATE ON fences TO {role}",
        ),
        (
            "REVOKE UPDATE ON SEQUENCE messages_seq_seq FROM {role}",
            "sequences",
            "{role} may not read and set messages_seq_seq: on a copy made by logical replication",
            "GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ),
        (
            "INSERT INTO sequence_marks VALUES ('messages', 7)",
            "sequences",
            "messages_seq_seq: the next number is one that rows have",
            "SELECT setval('messages_seq_seq', 1000007)",
        ),
        (
            "ALTER TABLE messages ENABLE ROW LEVEL SECURITY",
            "row security",
            "it keeps rows of messages from {role}",
            "ALTER ROLE {role} BYPASSRLS",
        ),
        (
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            "schema",
            '{role} may use no schema of its search_path ("$user", public)',
            "GRANT USAGE ON SCHEMA public TO {role}",
        ),
        (
            'CREATE SCHEMA "T" AUTHORIZATION {role}; ALTER ROLE {role} SET search_path = "T"',
            "schema",
            "tables of Crossfade are in schema public",
            "ALTER ROLE {role} SET search_path = public",
        ),
        (
            "ALTER ROLE {role} SET synchronous_commit = off",
            "durability",
            "synchronous_commit=off: a crash loses rows",
            "ALTER ROLE {role} RESET synchronous_commit",
        ),
        (
            "ALTER ROLE {role} CONNECTION LIMIT 7",
            "connections",
            "the role {role} takes 7",
            "ALTER ROLE {role} CONNECTION LIMIT",
        ),
    ],
)
async def test_what_a_role_of_postgresql_lacks_is_named(
    doctor: Doctor,
    database_pool: Pool,
    database_url: str,
    role: str,
    change: str,
    what: str,
    found: str,
    remedy: str,
) -> None:
    await database_pool.execute(change.format(role=role))
    _, told = await doctor.examine(DATABASE_URL=_as(role, database_url))
    said = told[f"postgresql, {what}"]
    is_warning = what == "connections" or change.startswith("REVOKE UPDATE ON SEQUENCE")
    assert said["grade"] == ("warning" if is_warning else "bad")
    assert found.format(role=role) in said["found"]
    assert remedy.format(role=role) in said["remedy"]
    assert "postgresql, connection" not in told, "it was reached"


@pytest.mark.parametrize(
    ("change", "what", "found", "remedy"),
    [
        (
            "ALTER TABLE message_receipts SET UNLOGGED; ALTER TABLE messages SET UNLOGGED",
            "unlogged tables",
            "message_receipts, messages: empty after a crash",
            "ALTER TABLE message_receipts SET LOGGED; ALTER TABLE messages SET LOGGED",
        ),
        (
            "ALTER TABLE messages DROP CONSTRAINT messages_idempotency_key_key",
            "constraints",
            "the tables lack messages_idempotency_key_key",
            "crossfade audit --repair",
        ),
    ],
)
async def test_tables_that_may_lose_or_double_a_row_are_bad(
    doctor: Doctor,
    database_pool: Pool,
    database_url: str,
    change: str,
    what: str,
    found: str,
    remedy: str,
) -> None:
    status, told = await doctor.examine(DATABASE_URL=database_url)
    assert f"postgresql, {what}" not in told
    await database_pool.execute(change)
    status, told = await doctor.examine(DATABASE_URL=database_url)
    said = told[f"postgresql, {what}"]
    assert (status, said["grade"]) == (1, "bad")
    assert said["found"].startswith(found)
    assert remedy in said["remedy"]


async def test_rights_are_looked_at_where_the_tables_are(
    doctor: Doctor, database_pool: Pool, database_url: str, role: str
) -> None:
    """A schema of the role's own comes before the one that has the tables, and has none."""
    await database_pool.execute(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    await database_pool.execute("CREATE TABLE strangers ()")
    _, told = await doctor.examine(DATABASE_URL=_as(role, database_url))
    assert told["postgresql, rights"]["grade"] == "fine"
    await database_pool.execute(f"REVOKE INSERT ON messages FROM {role}")
    _, told = await doctor.examine(DATABASE_URL=_as(role, database_url))
    assert told["postgresql, rights"]["found"] == f"{role} lacks INSERT on messages"


@pytest.mark.parametrize(
    ("change", "url", "remedy"),
    [
        ("SELECT 1", "{url}_not_there", "make that database"),
        ("SELECT 1", "{url}?sslmode=require", "lower sslmode"),
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "{url}", "ALTER ROLE ... CONNECTION LIMIT"),
        ("ALTER ROLE {role} NOLOGIN", "{url}", "correct the user and the password"),
    ],
)
async def test_a_database_that_refuses_us_is_told_with_what_mends_that(
    doctor: Doctor,
    database_pool: Pool,
    database_url: str,
    role: str,
    change: str,
    url: str,
    remedy: str,
) -> None:
    await database_pool.execute(change.format(role=role))
    given = url.format(url=_as(role, database_url))
    status, told = await doctor.examine(DATABASE_URL=given)
    assert status == 1
    assert remedy in told["postgresql, connection"]["remedy"]
    assert remedy not in told["postgresql, connection"]["found"]


async def test_more_processes_than_connections_are_a_warning(
    doctor: Doctor, log: TransportSettings
) -> None:
    status, found = await doctor.examine(DATABASE_POOL_SIZE="500")
    assert status == 0
    assert "DATABASE_POOL_SIZE" in found["postgresql, connections"]["remedy"]


async def test_a_pooler_whose_sessions_are_taken_gives_no_answer(
    doctor: Doctor, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """In session mode; by default pgbouncer has 20 for a database and a user."""
    name = doctor.settings["DATABASE_URL"].rpartition("/")[2]
    pooler = Pgbouncer(tmp_path / "pooler", postgres_server, mode="session", pool_size=1)
    async with pooler:
        taken = await asyncpg.connect(pooler.url_of(name))
        status, found = await doctor.examine(DATABASE_URL=pooler.url_of(name))
        await taken.close()
    assert status == 3, "a time-out: unknown"
    assert "gave no answer in time" in found["postgresql, connection"]["found"]
    assert "default_pool_size" in found["postgresql, connection"]["remedy"]


async def test_a_pooler_is_named_and_what_it_keeps_back(
    doctor: Doctor, log: TransportSettings, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    needs_prepared_statements()
    direct = doctor.settings["DATABASE_URL"]
    pooler = Pgbouncer(tmp_path / "pooler", postgres_server, mode="transaction", statements=200)
    async with pooler:
        _, found = await doctor.examine(
            DATABASE_URL=pooler.url_of(direct.rpartition("/")[2]), DATABASE_DIRECT_URL=direct
        )
    assert found["postgresql, pooler"]["found"] == "in transaction mode"
    assert "SET statement_timeout = '30000'" in found["postgresql, sessions"]["remedy"]
    assert "postgresql, connections" not in found, "the pooler says how many"


async def test_a_database_whose_collation_was_upgraded_beneath_it_is_bad(
    doctor: Doctor, postgres_server: PostgresServer
) -> None:
    """As when the system's libraries are upgraded: its indexes are sorted in the old order."""
    server = await asyncpg.connect(postgres_server.url)
    try:
        try:
            await server.execute(
                "CREATE DATABASE collated TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            )
        except asyncpg.PostgresError as error:
            absent(f"PostgreSQL 15 or later with ICU, to have a collation with a version: {error}")
        url = postgres_server.url_of("collated")
        await migrate.upgrade(url)
        _, found = await doctor.examine(DATABASE_URL=url)
        assert "postgresql, collation" not in found
        await server.execute(
            "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'collated'"
        )
        status, found = await doctor.examine(DATABASE_URL=url)
        assert status == 1
        told = found["postgresql, collation"]
        assert told["grade"] == "bad"
        assert told["promise"] == 2
        assert "was made with version 0.1" in told["found"]
        assert "REINDEX DATABASE collated" in told["remedy"]
    finally:
        await server.execute("DROP DATABASE IF EXISTS collated")
        await server.close()
