"""What becomes of rows after their round was judged."""

from __future__ import annotations

import asyncpg

from lab.harness.anomaly import What
from lab.soak.vanished import vanished
from persistence.store.writer import insert
from tests.persistence.samples import message, placed


async def test_rows_that_are_neither_there_nor_archived_are_lost(
    database_pool: asyncpg.Pool,
) -> None:
    sent = [placed(message(f"c{n}")) for n in range(4)]
    await insert(database_pool, sent)
    await database_pool.execute(
        "INSERT INTO tombstones (id, accepted_at) SELECT id, accepted_at FROM messages LIMIT 2"
    )
    await database_pool.execute(
        "DELETE FROM messages WHERE id = (SELECT id FROM tombstones LIMIT 1)"
    )
    assert await vanished(database_pool, 4) == [], "one is archived, another is about to be"
    await database_pool.execute(
        "DELETE FROM messages WHERE id = (SELECT id FROM messages EXCEPT SELECT id FROM tombstones"
        " LIMIT 1)"
    )
    (anomaly,) = await vanished(database_pool, 4)
    assert anomaly.what is What.LOST
