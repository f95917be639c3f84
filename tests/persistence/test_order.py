"""``seq`` is log order, and the order in which rows become visible (promise 3)."""

from __future__ import annotations

import asyncio

import asyncpg

from persistence.reads.messages import conversation
from persistence.store.statement import LOCK_CLASS
from tests.persistence.samples import message, placed


async def test_seq_follows_the_batch_over_thousands_of_rows(writer, fence, database_pool):
    # Enough rows that a plan which sorted or hashed them would show, with keys in no order.
    sent = [str(i * 7919 % 6007) for i in range(6000)]
    for start in range(0, 6000, 3000):
        await writer.write(
            [placed(message(c, f"conv{int(c) % 3}")) for c in sent[start:][:3000]], fence
        )
    rows = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    assert [row["client_message_id"] for row in rows] == sent


async def test_a_batch_waits_for_the_one_before_it_in_its_partition(
    writer, fence, database_pool, database_url, eventually
):
    """A later ``seq`` that became visible first would be skipped by a page cursor for ever."""
    other = await asyncpg.connect(database_url)
    slow = other.transaction()
    await slow.start()
    await other.execute("SELECT pg_advisory_xact_lock($1, 0)", LOCK_CLASS)
    later = asyncio.create_task(writer.write([placed(message("later"))], fence))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    await eventually(lambda: database_pool.fetchval(waiting))
    # Drawn while the other waits for the lock, so it must come out below the other's.
    drawn = await other.fetchval("SELECT nextval(pg_get_serial_sequence('messages', 'seq'))")
    assert not later.done()
    await slow.commit()
    await other.close()
    await later
    assert await database_pool.fetchval("SELECT seq FROM messages") > drawn


async def test_pages_read_while_others_write_skip_nothing(writer, database_pool):
    """Two writers of one partition and a reader that follows: it must see every row, in order."""
    total, seen, cursor = 600, [], 0

    async def write(name: str) -> None:
        for i in range(0, total // 2, 3):
            batch = [placed(message(f"{name}{j}"), transport="direct") for j in range(i, i + 3)]
            await writer.write(batch, None)

    async with asyncio.TaskGroup() as writers:
        tasks = [writers.create_task(write(name)) for name in "ab"]
        written = False
        while len(seen) < total and not written:
            # Looked at before the page is: what is written after the page may be the last.
            are_done = all(t.done() for t in tasks)
            page, _ = await conversation(database_pool, "conv", cursor, 7, most_bytes=1_000)
            if page:
                cursor = page[-1].seq
                seen += [m.message.client_message_id for m in page]
            written = are_done and not page
    for name in "ab":
        mine = [int(c[1:]) for c in seen if c[0] == name]
        assert mine == list(range(total // 2))


async def test_partitions_are_locked_in_ascending_order_so_that_batches_can_not_deadlock(
    writer, database_pool, database_url, eventually
):
    other = await asyncpg.connect(database_url)
    held = other.transaction()
    await held.start()
    await other.execute("SELECT pg_advisory_xact_lock($1, 2)", LOCK_CLASS)
    batch = [placed(message(f"c{p}"), partition=p, transport="direct") for p in (3, 1, 2)]
    writing = asyncio.create_task(writer.write(batch, None))
    locks = (
        "SELECT objid::int, granted FROM pg_locks WHERE locktype = 'advisory' AND pid = "
        "(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) ORDER BY objid"
    )
    rows = await eventually(lambda: database_pool.fetch(locks))
    assert [tuple(row) for row in rows] == [(1, True), (2, False)]
    await held.rollback()
    await other.close()
    assert len((await writing).persisted) == 3
