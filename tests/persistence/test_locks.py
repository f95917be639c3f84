"""All inserts of a conversation share a lock, from whatever log and partition they come (I2)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from persistence.reads.messages import conversation
from persistence.store import writer as writer_module
from persistence.store.locks import BUCKETS, lock_of, locks_of
from persistence.store.writer import insert
from tests.persistence.samples import message, placed
from transport.message.partitioner import partition_for

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def test_the_locks_of_a_batch_are_taken_in_one_order_the_old_ones_first():
    conversations = [f"conversation {n}" for n in range(2000)]
    locks = locks_of([3, 1, 2, 1], conversations)
    assert locks[:3] == [1, 2, 3]
    assert locks[3:] == sorted({lock_of(conversation) for conversation in conversations})
    assert all(-BUCKETS <= lock < 0 for lock in locks[3:])
    assert locks_of([1], [*conversations, "more"])[1:] != locks_of([1], [])[1:]


@pytest.mark.parametrize("count", [12, 15, 16, 24, 32, 64])
def test_partitions_of_one_log_share_no_lock(count):
    owners = {}
    for number in range(5000):
        name = f"conversation {number}"
        home = partition_for(name, count)
        assert owners.setdefault(lock_of(name), home) == home


@pytest.mark.parametrize("locks", ["by conversation", "by partition"])
async def test_two_logs_readers_insert_a_conversation_one_after_the_other(
    writer, database_pool, database_url, eventually, monkeypatch, locks
):
    """By partition, as it was: a page cursor passes a row that becomes visible later."""
    if locks == "by partition":
        monkeypatch.setattr(
            writer_module, "locks_of", lambda partitions, _: sorted(set(partitions))
        )
    other = await asyncpg.connect(database_url)
    slow = other.transaction()
    await slow.start()
    await insert(other, [placed(message("first"), 3, "redis")])
    later = asyncio.create_task(writer.write([placed(message("second"), 11, "redis@16")], None))
    if locks == "by conversation":
        await eventually(lambda: database_pool.fetchval(WAITING))
    else:
        await later
    read = []
    page, _ = await conversation(database_pool, "conv", 0, 10, most_bytes=100_000)
    read += page
    await slow.commit()
    await other.close()
    await later
    after = read[-1].seq if read else 0
    page, _ = await conversation(database_pool, "conv", after, 10, most_bytes=100_000)
    read += page
    found = [row.message.client_message_id for row in read]
    assert found == (["first", "second"] if locks == "by conversation" else ["second"])
