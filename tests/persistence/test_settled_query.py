"""The standbys of a log's partitions share one question to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from persistence.errors import PersistenceError
from persistence.worker.settled_query import SettlementQuery, UnsettledRecord, unsettled_record
from tests.persistence.samples import message, placed, record


@pytest.fixture
async def settled(writer) -> list[UnsettledRecord]:
    """Records of four partitions; each message but the last is a row from another log."""
    events = [message(f"c{number}") for number in range(4)]
    await writer.write([placed(event, transport="kafka") for event in events[:-1]], None)
    return [unsettled_record(record(event, partition=n)) for n, event in enumerate(events)]


@pytest.fixture
def statements() -> list[str]:
    """The questions that PostgreSQL was asked."""
    return []


@pytest.fixture
async def pool(database_url: str, statements: list[str]) -> AsyncIterator[asyncpg.Pool]:
    def note(executed) -> None:
        if "INSERT INTO message_positions" in executed.query:
            statements.append(executed.query)

    async def log_queries(connection) -> None:
        connection.add_query_logger(note)

    async with asyncpg.create_pool(database_url, min_size=1, setup=log_queries) as made:
        yield made


@asynccontextmanager
async def table_locked(pool, table: str) -> AsyncIterator[None]:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def waits_for_lock(pool) -> bool:
    return await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1


async def positions(pool) -> list[tuple[int, str]]:
    rows = await pool.fetch(
        "SELECT partition, log_offset FROM message_positions ORDER BY partition"
    )
    return [(row["partition"], row["log_offset"]) for row in rows]


async def test_each_partition_gets_the_answer_to_its_own_question(settled, pool, statements):
    query = SettlementQuery(pool, "redis")
    await asyncio.gather(*(query.ask([question], letters=False) for question in settled))
    assert [question.settled for question in settled] == [True, True, True, False]
    expected = [(n, question.record.offset) for n, question in enumerate(settled[:-1])]
    assert await positions(pool) == expected
    assert len(statements) == 2, "the first asks alone, the others together"


async def test_a_column_of_your_own_with_the_name_of_ours_changes_no_answer(settled, pool):
    """A name without its table would mean that column."""
    await pool.execute("ALTER TABLE messages ADD COLUMN message_id text")
    await SettlementQuery(pool, "redis").ask(settled, letters=True)
    assert [question.settled for question in settled] == [True, True, True, False]


async def test_no_statement_asks_of_many_records_of_several_partitions(pool, statements):
    """PostgreSQL and the process would do nothing else meanwhile, and requests wait for both."""
    waiting = [
        [unsettled_record(record(message(f"c{n}-{of}"), partition=of)) for n in range(100)]
        for of in range(6)
    ]
    query = SettlementQuery(pool, "redis")
    await asyncio.gather(*(query.ask(records, letters=False) for records in waiting))
    assert len(statements) == 1 + 3, "the first asks alone, the five others two by two"


async def test_a_question_that_is_given_up_does_not_take_the_others_along(
    settled, pool, eventually
):
    query = SettlementQuery(pool, "redis")
    async with table_locked(pool, "message_positions"):
        first, *others = (
            asyncio.create_task(query.ask([question], letters=False)) for question in settled
        )
        await eventually(lambda: waits_for_lock(pool))
        first.cancel()
        await asyncio.wait([first])
    await asyncio.gather(*others)
    assert first.cancelled()
    assert [question.settled for question in settled] == [False, True, True, False]


async def test_an_outage_is_told_to_all_who_asked(settled, pool):
    query = SettlementQuery(pool, "redis")
    pool.terminate()
    asked = (query.ask([question], letters=False) for question in settled)
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [type(errors[0])] * 4
    assert isinstance(errors[0], PersistenceError)
