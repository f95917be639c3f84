"""The reader that ``docs/read_messages.md`` shows gives each row once, in order, beside writers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg

from persistence.store.writer import Writer
from tests.persistence.samples import message, placed

PAGE = (Path(__file__).parents[2] / "docs" / "read_messages.md").read_text("utf-8")
PARTITIONS = 3
ROWS_EACH = 20


def _block(language: str, containing: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return found


async def _write(pool: asyncpg.Pool, partition: int) -> None:
    writer = Writer(pool)
    for number in range(ROWS_EACH):
        await writer.write([placed(message(f"{partition}-{number}"), partition)], None)


async def test_two_readers_of_each_partition_handle_every_row_once_and_in_order(
    database_pool: asyncpg.Pool,
) -> None:
    for statement in _block("sql", "my_positions").split(";"):
        if statement.strip():
            await database_pool.execute(statement)
    names: dict[str, Any] = {}
    exec(_block("python", "read_new"), names)
    await database_pool.execute("CREATE TABLE handled (n bigserial, partition int, seq bigint)")
    writing = [asyncio.create_task(_write(database_pool, p)) for p in range(PARTITIONS)]

    async def read(partition: int) -> None:
        async def handle(connection: asyncpg.Connection, row: asyncpg.Record) -> None:
            await connection.execute(
                "INSERT INTO handled (partition, seq) VALUES ($1, $2)", partition, row["seq"]
            )

        written = False
        while True:
            finished = written
            async with database_pool.acquire() as connection:
                found = await names["read_new"](connection, partition, handle)
            if finished and not found:
                return
            written = all(task.done() for task in writing)

    await asyncio.gather(*(read(p) for p in range(PARTITIONS) for _ in range(2)), *writing)
    handled = await database_pool.fetch("SELECT partition, seq FROM handled ORDER BY n")
    rows = await database_pool.fetch("SELECT partition, seq FROM messages ORDER BY seq")
    assert len(rows) == PARTITIONS * ROWS_EACH
    for partition in range(PARTITIONS):
        expected = [row["seq"] for row in rows if row["partition"] == partition]
        assert [row["seq"] for row in handled if row["partition"] == partition] == expected


async def test_the_page_of_a_conversation_is_in_the_order_of_its_rows(
    database_pool: asyncpg.Pool,
) -> None:
    writer = Writer(database_pool)
    await writer.write([placed(message(str(n))) for n in range(5)], None)
    statement = _block("sql", "conversation_id = $1")
    first = await database_pool.fetch(statement, "conv", 0)
    assert len(first) == 5
    assert await database_pool.fetch(statement, "conv", first[2]["seq"]) == first[3:]
