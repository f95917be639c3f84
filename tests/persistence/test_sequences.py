"""Sequences that fell behind their rows: found and advanced before a row takes a number twice."""

from __future__ import annotations

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import Identity
from structlog.testing import capture_logs

from otel.metrics import Metrics
from persistence.database.pool import connect, using
from persistence.dead_letters.index import DeadLetterIndex
from persistence.errors import Outage
from persistence.sequences import (
    MARK,
    NUMBERED,
    advance_sequences,
    behind,
    pass_lost_numbers,
)
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from persistence.tables.models import metadata
from tests.persistence.fences import owned
from tests.persistence.samples import message, placed
from transport.contract import Record, Topic


async def new_pool(url: str) -> asyncpg.Pool:
    return await connect(PersistenceSettings(database_url=SecretStr(url)))


async def beat(pool: asyncpg.Pool) -> None:
    await pool.execute(MARK)


async def forget_numbers(pool: asyncpg.Pool) -> None:
    """Set each sequence to its beginning, as a copy made by logical replication has it."""
    for table, column in NUMBERED:
        await pool.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), 1, false)"
        )


async def told(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    return [row["client_message_id"] for row in rows]


def letter(number: int) -> Record:
    return Record(Topic.DEAD_LETTERS, 0, f"{number}-0", "k", b"{}", {}, 1_764_000_000.0)


async def test_a_table_that_numbers_no_rows_is_an_outage_until_it_does(database_url, database_pool):
    """``pg_restore -t messages`` leaves it so. It is no record's fault."""
    pool = await new_pool(database_url)
    try:
        writer = Writer(pool)
        for number in range(3):
            await writer.write([placed(message(f"old {number}"))], None)
        await beat(database_pool)
        await database_pool.execute("ALTER TABLE messages ALTER COLUMN seq DROP IDENTITY")
        for _ in range(3):  # over the connection that knew the sequence, and over new ones
            with pytest.raises(Outage, match="ADD GENERATED ALWAYS AS IDENTITY"):
                await writer.write([placed(message("new"))], None)
        await database_pool.execute(
            "ALTER TABLE messages ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY"
        )
        await writer.write([placed(message("new"))], None)
        assert await told(database_pool) == ["old 0", "old 1", "old 2", "new"]
    finally:
        await pool.close()


def test_every_column_that_postgresql_numbers_is_known():
    found = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.server_default, Identity) or column.identity is not None
    }
    assert found == set(NUMBERED)


async def test_new_rows_follow_old_ones_on_a_copy(database_url, database_pool):
    writer = Writer(database_pool)
    fence = await owned(writer, "redis", 0, 1, "test")
    for number in range(3):
        await writer.write([placed(message(f"old {number}"))], fence)
    await beat(database_pool)
    await writer.write([placed(message("old 3"))], fence)  # not marked yet
    await forget_numbers(database_pool)
    later = await new_pool(database_url)
    try:
        with capture_logs() as logs:
            fence = await owned(Writer(later), "redis", 0, 2, "test")
        await Writer(later).write([placed(message("new"))], fence)
        assert await told(later) == ["old 0", "old 1", "old 2", "old 3", "new"]
        assert [line["sequence"] for line in logs if line["log_level"] == "warning"] == [
            "messages_seq_seq"
        ]
        async with using(later) as connection:
            assert await behind(connection) == []
    finally:
        await later.close()


async def test_the_first_insert_over_a_connection_costs_one_more_query(database_pool):
    async with using(database_pool) as connection:
        queries: list[str] = []
        with connection.query_logger(lambda query: queries.append(query.query)):
            await advance_sequences(connection)
            await advance_sequences(connection)
        await connection.execute("SELECT 1")  # the event loop reports the ones before meanwhile
        assert len(queries) == 1


async def test_direct_rows_follow_old_ones_on_a_copy(database_url, database_pool):
    old = [placed(message(f"old {number}"), transport="direct") for number in range(3)]
    await Writer(database_pool).write(old, None)
    await beat(database_pool)
    await forget_numbers(database_pool)
    later = await new_pool(database_url)
    try:
        await Writer(later).write([placed(message("new"), transport="direct")], None)
        assert await told(later) == ["old 0", "old 1", "old 2", "new"]
    finally:
        await later.close()


async def test_dead_letters_are_listed_on_a_copy(database_url, database_pool):
    """Their number is the primary key, so PostgreSQL refuses each one with an old number."""
    index = DeadLetterIndex(database_pool, "redis", Metrics())
    await index.position.read("log-1")
    await index.add([letter(number) for number in range(10)])  # more than one letter has tries
    await forget_numbers(database_pool)
    later = await new_pool(database_url)
    try:
        index = DeadLetterIndex(later, "redis", Metrics())
        await index.position.read("log-1")
        await index.add([letter(10)])
        rows = await later.fetch("SELECT log_offset FROM dead_letters ORDER BY id")
        assert [row["log_offset"] for row in rows] == [f"{number}-0" for number in range(11)]
    finally:
        await later.close()


async def test_a_mark_is_written_when_numbers_have_grown_by_a_hundredth(database_pool):
    place = "SELECT reached, ctid::text FROM sequence_marks"
    await beat(database_pool)
    assert await database_pool.fetch(place) == [], "no number was given"
    sequence = "SELECT setval('messages_seq_seq', $1)"
    for reached, marked in ((1, 1), (50, 50), (5_000, 5_000), (5_050, 5_000), (5_051, 5_051)):
        await database_pool.fetchval(sequence, reached)
        await beat(database_pool)
        assert await database_pool.fetchval(place) == marked
    (before,) = await database_pool.fetch(place)
    await beat(database_pool)
    await database_pool.fetchval(sequence, 1)
    await beat(database_pool)
    assert await database_pool.fetch(place) == [before], "it is neither lowered nor written again"


async def test_a_role_that_may_not_advance_it_inserts_nothing_and_says_the_remedy(
    database_url, database_pool
):
    await Writer(database_pool).write([placed(message("old"))], None)
    await beat(database_pool)
    await forget_numbers(database_pool)
    role = database_url.rpartition("/")[2] + "_numbers"
    await database_pool.execute(f"CREATE ROLE {role} LOGIN")
    try:
        await database_pool.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        await database_pool.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}")
        limited = await new_pool(database_url.replace("//crossfade", f"//{role}"))
        try:
            writer = Writer(limited)
            with pytest.raises(Outage, match="logical replication copies no sequences") as refused:
                await owned(writer, "redis", 0, 1, "test")
            with pytest.raises(Outage):
                await writer.write([placed(message("new"), transport="direct")], None)
            assert await told(database_pool) == ["old"]
            remedy = str(refused.value).rpartition("as its owner: ")[2]
            await database_pool.execute(remedy)
            fence = await owned(writer, "redis", 0, 1, "test")
            await writer.write([placed(message("new"))], fence)
        finally:
            await limited.close()
        assert await told(database_pool) == ["old", "new"]
    finally:
        await database_pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_that_may_not_pass_lost_numbers_is_an_outage_with_the_remedy(
    database_url, database_pool
):
    role = database_url.rpartition("/")[2] + "_passes"
    await database_pool.execute(f"CREATE ROLE {role} LOGIN")
    try:
        limited = await new_pool(database_url.replace("//crossfade", f"//{role}"))
        try:
            with pytest.raises(Outage, match="would miss new messages") as refused:
                async with using(limited) as connection:
                    await pass_lost_numbers(connection)
            await database_pool.execute(str(refused.value).rpartition("as its owner: ")[2])
            async with using(limited) as connection:
                await pass_lost_numbers(connection)
        finally:
            await limited.close()
    finally:
        await database_pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_that_may_not_read_sequences_works_without_marks(database_url, database_pool):
    role = database_url.rpartition("/")[2] + "_blind"
    await database_pool.execute(f"CREATE ROLE {role} LOGIN")
    try:
        await database_pool.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        limited = await new_pool(database_url.replace("//crossfade", f"//{role}"))
        try:
            fence = await owned(Writer(limited), "redis", 0, 1, "test")
            await Writer(limited).write([placed(message("one"))], fence)
            await beat(limited)
            async with using(limited) as connection:
                await advance_sequences(connection)
        finally:
            await limited.close()
        assert await told(database_pool) == ["one"]
        assert await database_pool.fetch("SELECT FROM sequence_marks") == []
    finally:
        await database_pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
