"""The follower: the position in the log that is not consumed, and what it persists there.

Redis is consumed or not, and a log in memory is the other: what the two have in common is the
contract. With Kafka, and with processes: ``tests/faults/test_crossfade.py``.
"""

from __future__ import annotations

from functools import partial
from random import Random

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from persistence.chain.known_chain import KnownChain
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.redrive import Redriver
from persistence.dead_letters.rows import HEADER_REDRIVES
from persistence.dead_letters.selection import Selection
from tests.persistence.loglib import broken, contents, indexed, raw
from tests.persistence.samples import PARTITIONS, message, placed, receipt
from tests.support.mirrors import append, copy_of, drained, lag, mirror, seal, unread
from transport.contract import WORKER_GROUP, Topic
from transport.message.partitioner import partition_for

P = partition_for("conv", PARTITIONS)


async def positions(pool, transport: str) -> dict[str, tuple[int, str]]:
    rows = await pool.fetch("SELECT * FROM message_positions WHERE transport = $1", transport)
    return {str(row["message_id"]): (row["partition"], row["log_offset"]) for row in rows}


async def test_what_the_workers_persisted_is_acknowledged_and_its_place_is_noted(
    start, follow, transport, other, database_pool, eventually
):
    sent = [message(f"c{i}", f"conv{i % 7}") for i in range(300)]
    await mirror(transport, other, *sent, receipt(sent[0]), mode="async")
    follower, _ = follow(), start()
    await eventually(partial(drained, other))
    noted = await positions(database_pool, "memory")
    assert set(noted) == {event.message_id for event in sent}
    standing = {
        (p, record.offset): record.headers["messageId"].decode()
        for p in range(PARTITIONS)
        for record in await other.read(Topic.MESSAGES, p)
    }
    assert all(standing[place] == identifier for identifier, place in noted.items())
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 300
    assert follower.count("persisted") == 0
    status = follower.consumer.status()
    assert status.waiting == []
    assert {p.floor for p in await other.progress(Topic.MESSAGES, group=WORKER_GROUP)} - {
        None
    } == set(status.positions.values())


async def test_its_position_follows_and_a_worker_begins_there(
    start, follow, mirrored, transport, other, database_pool, eventually
):
    await mirrored(transport, other)
    sent = [message(f"c{i}", f"conv{i % 7}") for i in range(60)]
    await mirror(transport, other, *sent[:40])
    follower, worker = follow(), start()
    await eventually(lambda: is_at_the_end(database_pool, other))
    await follower.stop()
    follower = follow(member="w2")
    await mirror(transport, other, *sent[40:])
    await eventually(lambda: is_at_the_end(database_pool, other))
    await eventually(partial(drained, other))
    await follower.stop()
    await eventually(partial(drained, transport))
    await worker.stop()
    with capture_logs() as logs:
        reads = start(log=other, member="w3")
        await mirror(transport, other, message("last", "conv1"))
        await eventually(partial(drained, other))
        await reads.stop()
    assert [line["event"] for line in logs if line["log_level"] in ("warning", "error")] == []
    assert (reads.count("persisted"), reads.count("duplicate")) == (1, 0)


async def test_a_stop_leaves_the_position_behind_the_last_settled_record(
    start, follow, transport, other, database_pool, eventually
):
    """The position is moved once a second, and at the end."""
    follower, worker = follow(), start()
    for turn in range(3):
        await mirror(transport, other, *(message(f"c{turn}.{i}", f"conv{i}") for i in range(8)))
        await eventually(lambda turn=turn: worker.count("persisted") == 8 * (turn + 1))
        await eventually(partial(_is_idle, follower))
        reached = follower.consumer.status().positions
        await follower.stop()
        stored = await through(database_pool, other)
        key = other.sort_key
        assert all(key(stored[p]) >= key(offset) for p, offset in reached.items())
        follower = follow(member=f"w{turn + 2}")
    await eventually(lambda: is_at_the_end(database_pool, other))


async def test_a_follower_that_was_killed_before_it_moved_writes_nothing_again(
    start, follow, transport, other, database_pool, eventually
):
    """Also a record that became a dead letter: it becomes no second one."""
    sent = [message(f"c{i}", "conv") for i in range(20)]
    follower, worker = follow(), start()
    await mirror(transport, other, *sent[:5])
    await eventually(lambda: is_at_the_end(database_pool, other))
    start(DeadLetterIndexer, member="i1")
    await mirror(transport, other, *sent[5:], broken(message("bad", content="nul")))
    last = (await other.read(Topic.MESSAGES, P))[-1].offset
    await eventually(lambda: follower.consumer.status().positions[P] == last)
    await follower.kill()
    await eventually(partial(drained, transport))
    await worker.stop()
    with capture_logs() as logs:
        follower = follow(member="w3")
        await eventually(lambda: is_at_the_end(database_pool, other))
        await follower.stop()
    assert [line["event"] for line in logs if line["log_level"] in ("warning", "error")] == []
    assert len(await transport.read(Topic.DEAD_LETTERS, 0)) == 1
    assert await other.read(Topic.DEAD_LETTERS, 0) == []
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 20


async def test_a_question_that_failed_is_asked_again(
    start, follow, transport, other, database_pool, database_url, eventually
):
    follow()
    start()
    connection = await asyncpg.connect(database_url)
    waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
    try:
        async with connection.transaction():
            await connection.execute("LOCK message_positions IN ACCESS EXCLUSIVE MODE")
            await mirror(transport, other, *(message(f"c{i}") for i in range(10)))
            asking = await eventually(lambda: connection.fetchval(waiting))
            await connection.execute("SELECT pg_terminate_backend($1)", asking)

            async def asks_again() -> bool:
                return await connection.fetchval(waiting) not in (None, asking)

            await eventually(asks_again)
            assert await lag(other) == 10
    finally:
        await connection.close()
    await eventually(partial(drained, other))


def _is_idle(follower) -> bool:
    return not follower.consumer.waiting()


async def through(pool, log) -> dict[int, str]:
    """Return the position of each partition that has one."""
    rows = await pool.fetch("SELECT * FROM log_positions WHERE transport = $1", log.name)
    return {row["partition"]: row["through"] for row in rows if row["partition"] >= 0}


async def is_at_the_end(pool, log) -> bool:
    """Return whether PostgreSQL's positions have passed all that the log holds."""
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return await through(pool, log) == {part.partition: part.end or "" for part in progress}


async def test_nothing_is_acknowledged_beyond_the_first_that_is_not_settled(
    follow, transport, other, database_pool, writer, eventually
):
    """Whatever is settled in whatever order, by a worker that is this test."""
    random = Random(7)
    sent = [message(f"c{i}", f"conv{i % 5}") for i in range(200)]
    await mirror(transport, other, *sent, mode="async")
    follow(stream_batch_size=20)
    waiting = list(sent)
    while waiting:
        chosen = random.sample(waiting, min(len(waiting), random.randint(1, 40)))
        await writer.write([placed(event) for event in chosen], None)
        waiting = [event for event in waiting if event not in chosen]
        open_ids = {event.message_id.encode() for event in waiting}

        async def at_the_first_open(open_ids=open_ids) -> bool:
            at = await through(database_pool, other)
            left = [
                await other.read(Topic.MESSAGES, p, after=at.get(p) or None, limit=5000)
                for p in range(PARTITIONS)
            ]
            seen = {record.headers["messageId"] for records in left for record in records}
            assert open_ids <= seen, "the position passed a message that is no row"
            return all(
                not records or records[0].headers["messageId"] in open_ids for records in left
            )

        await eventually(at_the_first_open)
    await eventually(partial(drained, other))


async def test_copies_that_the_workers_still_have_before_them_are_never_persisted(
    start, follow, transport, other, database_pool, eventually
):
    """A shadow with a hole: what stands after the hole must wait for the workers."""
    first, second = message("c1", content="first"), message("c2", content="second")
    for mode in ("async", "backfill", "sync"):
        await mirror(transport, other, first, second, mode=mode, dropped=(first,))
    follower = follow()
    await eventually(lambda: follower.consumer.status().waiting)
    (stall,) = follower.consumer.status().waiting
    assert "redis" in stall.reason
    assert await contents(database_pool) == []
    start()
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first", "second"]
    assert follower.consumer.status().waiting == []


async def test_a_follower_of_a_log_with_a_hole_would_reorder(
    start, follow, mirrored, transport, other, database_pool, eventually
):
    """The test above can fail: if it is recorded that every process wrote both logs, too early."""
    first, second = message("c1", content="first"), message("c2", content="second")
    await mirrored(transport, other)
    await mirror(transport, other, first, second, dropped=(first,))
    follow()
    await eventually(lambda: contents(database_pool))
    start()
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == ["second", "first"]


async def test_a_log_is_persisted_from_its_follower_when_no_worker_reads(
    start, follow, mirrored, transport, other, database_pool, eventually
):
    """During a step, a conversation may have only followers in both logs."""
    await mirrored(transport, other)
    sent = [message(f"c{i}", content=f"{i}") for i in range(120)]
    await mirror(transport, other, *sent)
    follower = follow(transport, stream_batch_size=50)
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == [f"{i}" for i in range(120)]
    worker = start(log=other, member="w2")
    await eventually(partial(drained, other))
    await eventually(lambda: worker.count("duplicate") == 120)  # counted in the next turn
    later = message("late", content="late")
    await mirror(transport, other, later)
    await eventually(lambda: worker.count("persisted") == 1)
    await eventually(partial(drained, transport))
    assert follower.count("persisted") == 120, "it is behind a worker that is there"


async def test_records_behind_the_mark_of_a_closed_log_wait(
    follow, mirrored, transport, other, database_pool, eventually
):
    """Some process writes the other log alone: there may be a hole before each of them."""
    await append(transport, *(message(f"c{i}", content=f"{i}") for i in range(5)))
    chain = await mirrored(transport, other)
    await append(transport, message("behind", content="behind"))
    await chain.update(lambda now: now.closed("redis"))
    follower = follow(transport)
    await eventually(lambda: follower.consumer.status().waiting)
    assert await contents(database_pool) == [f"{i}" for i in range(5)]
    assert await lag(transport) == 1


async def test_the_new_log_waits_until_the_mark_of_the_old_one_is_reached(
    start, follow, mirrored, transport, other, database_pool, eventually
):
    """Message 1 was acknowledged before every process wrote both logs, and has no copy."""
    first, second = message("c1", content="first"), message("c2", content="second")
    await append(transport, first)
    await mirrored(transport, other)
    await mirror(transport, other, second)
    worker = start(log=other)
    await eventually(lambda: worker.consumer.status().waiting)
    assert await contents(database_pool) == []
    follow(transport, member="w2")
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first", "second"]
    await mirror(transport, other, message("c3", content="third"))
    await eventually(lambda: worker.count("persisted"))


async def test_a_foreign_record_waits_until_its_log_is_whole(
    follow, mirrored, transport, other, database_pool, eventually
):
    """In phase 1 the shadow may lack what was sent before it."""
    garbage = raw(b"\xff no envelope", conversation="conv")
    await append(other, message("c1", content="1"), garbage, message("c2", content="2"))
    follower = follow()
    await eventually(lambda: follower.consumer.status().waiting)
    assert await contents(database_pool) == []
    await mirrored(transport, other)
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["1", "2"]
    (letter,) = await other.read(Topic.DEAD_LETTERS, 0)
    assert letter.body == garbage.body


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_copy_whose_original_was_lost_is_persisted(
    start, follow, mirrored, transport, other, database_pool, eventually, mode
):
    """The workers' log lost what was acknowledged: the copy, of whatever mode, is all there is."""
    lost = [message(f"lost{i}", content=f"{i}") for i in range(30)]
    offsets = await append(transport, *lost)
    worker = start()
    await eventually(partial(drained, transport))
    await worker.stop()
    await database_pool.execute("DELETE FROM messages")
    await append(
        other,
        *(copy_of(seal(event), "redis", at, mode) for event, at in zip(lost, offsets, strict=True)),
    )
    follower = follow()
    await eventually(lambda: follower.consumer.status().waiting)
    assert await contents(database_pool) == [], "before the mark, a copy may be late"
    start(member="w2")
    await mirrored(transport, other)
    await eventually(partial(drained, other))
    assert await contents(database_pool) == [f"{i}" for i in range(30)]


async def test_both_logs_are_read_after_a_change_by_hand(
    start, follow, transport, other, database_pool, eventually
):
    """TRANSPORT was changed, and CONSUME_FROM not, or for some processes only."""
    start()
    await append(transport, message("c1", content="1"))
    await eventually(partial(drained, transport))
    await KnownChain(database_pool).update(lambda now: now.changed_by_hand("memory", {"memory"}))
    follow()
    await append(other, message("c2", content="2"))
    await eventually(partial(drained, other))
    await append(transport, message("c3", content="3"))
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == ["1", "2", "3"]


async def test_a_dead_letter_settles_its_copy_whatever_was_wrong(
    start, follow, transport, other, database_pool, eventually
):
    first, another = message("c1", content="first"), message("c1", content="another body")
    bad = [
        another,
        broken(message("c9", content="nul")),
        receipt(message("never sent")),
        raw(b"\xff no envelope"),
    ]
    await mirror(transport, other, first, *bad, message("c2", content="second"), mode="async")
    follower = follow()  # the indexer's rows settle them
    start()
    start(DeadLetterIndexer, member="i1")
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first", "second"]
    assert await database_pool.fetchval("SELECT count(*) FROM dead_letters") == 4
    assert await other.read(Topic.DEAD_LETTERS, 0) == []
    assert follower.count("persisted") == 0
    noted = await positions(database_pool, "memory")
    # The conflict's is not its message's, nor is a receipt's.
    partition, offset = noted[first.message_id]
    bodies = {record.offset: record.body for record in await other.read(Topic.MESSAGES, partition)}
    assert bodies[offset] == seal(first).body
    assert set(noted) == {first.message_id, message("c2").message_id}


async def test_where_a_redriven_message_stands_is_where_it_came_back_to(
    start, follow, transport, other, database_pool, eventually, metrics
):
    await database_pool.execute("ALTER TABLE messages ADD CONSTRAINT hurt CHECK (false)")
    sent = message("c1")
    await mirror(transport, other, sent, mode="sync")
    follow()
    start()
    start(DeadLetterIndexer, member="i1")
    await eventually(partial(drained, other))
    before = await positions(database_pool, "memory")
    assert set(before) == {sent.message_id}
    await database_pool.execute("ALTER TABLE messages DROP CONSTRAINT hurt")
    redriver = Redriver(database_pool, transport, metrics)
    await redriver.wait(await redriver.start(Selection(), by="test"))
    await eventually(lambda: database_pool.fetchval("SELECT count(*) = 1 FROM messages"))
    (again,) = [
        record.offset
        for p in range(PARTITIONS)
        for record in await transport.read(Topic.MESSAGES, p)
        if "mirrorOf" not in record.headers and HEADER_REDRIVES in record.headers
    ]
    redriven = msgspec.structs.replace(seal(sent), headers={HEADER_REDRIVES: "1"})
    await append(other, copy_of(redriven, "redis", again))
    await eventually(partial(drained, other))
    after = await positions(database_pool, "memory")
    assert after.keys() == before.keys()
    assert other.sort_key(after[sent.message_id][1]) > other.sort_key(before[sent.message_id][1])


@pytest.mark.parametrize("swapped", [False, True], ids=["agree", "swapped"])
async def test_a_conflict_is_a_dead_letter_once_whichever_log_it_is_met_on(
    start, mirrored, transport, other, database_pool, eventually, swapped
):
    """Both logs are consumed one after the other, as when CONSUME_FROM changes in the middle."""
    await mirrored(transport, other)
    first, second = message("c1", content="first"), message("c1", content="second")
    offsets = await append(transport, first, second)
    copies = [
        copy_of(seal(event), "redis", at)
        for event, at in zip((first, second), offsets, strict=True)
    ]
    await append(other, *(reversed(copies) if swapped else copies))
    for log in (transport, other):
        start(log=log, member=f"w {log.name}")
        start(DeadLetterIndexer, member=f"i {log.name}", log=log)
        await eventually(partial(drained, log))
    for log in (transport, other):
        await eventually(partial(indexed, log))
    assert await contents(database_pool) == ["first"]
    assert await DeadLetters(database_pool).count() == {"idempotency_conflict": 1}


async def test_a_redriven_copy_is_a_record_of_its_own(
    start, follow, transport, other, database_pool, eventually, metrics
):
    """Its old letter does not settle it, and if it fails again there is another letter."""
    orphan = receipt(message("later"))
    await mirror(transport, other, orphan)
    start(log=other)
    start(DeadLetterIndexer, member="i1", log=other)
    await eventually(lambda: database_pool.fetchval("SELECT count(*) FROM dead_letters"))
    follower = follow(transport)
    await eventually(partial(drained, transport))

    redriver = Redriver(database_pool, transport, metrics)
    await redriver.wait(await redriver.start(Selection(), by="test"))
    (again,) = [record for p in range(PARTITIONS) for record in await unread(transport, p)]
    assert "mirrorOf" not in again.headers
    await eventually(lambda: follower.consumer.status().epochs)
    assert await lag(transport) == 1, "the letter of the first time settled the second"
    redriven = msgspec.structs.replace(seal(orphan), headers={HEADER_REDRIVES: "1"})
    await append(other, copy_of(redriven, "redis", again.offset))
    await eventually(lambda: database_pool.fetchval("SELECT count(*) = 2 FROM dead_letters"))
    await eventually(partial(drained, transport))
