"""The standby: the position in the log that is not consumed, and when it persists after all.

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

from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.redrive import Redriver
from persistence.dead_letters.rows import HEADER_REDRIVES
from persistence.dead_letters.selection import Selection
from persistence.standby.metrics import StandbyMetrics
from persistence.standby.takeover_rules import LogRole, TakeoverReason
from tests.persistence.loglib import broken, contents, indexed, raw
from tests.persistence.samples import PARTITIONS, message, placed, receipt
from tests.support.metric_values import value_of
from tests.support.mirrors import append, copy_of, drained, lag, mirror, seal, unread
from transport.contract import WORKER_GROUP, Record, Topic
from transport.message.partitioner import partition_for

P = partition_for("conv", PARTITIONS)


def taken_over(standby, reason: str) -> int:
    counter = standby.metrics.of(StandbyMetrics).taken_over.labels(
        standby.consumer.transport.name, reason
    )
    return int(value_of(counter))


async def positions(pool, transport: str) -> dict[str, tuple[int, str]]:
    rows = await pool.fetch("SELECT * FROM message_positions WHERE transport = $1", transport)
    return {str(row["message_id"]): (row["partition"], row["log_offset"]) for row in rows}


async def test_what_the_workers_persisted_is_acknowledged_and_its_place_is_noted(
    start, stand_by, transport, other, database_pool, eventually
):
    sent = [message(f"c{i}", f"conv{i % 7}") for i in range(300)]
    await mirror(transport, other, *sent, receipt(sent[0]), mode="async")
    standby, _ = stand_by(patience=60), start()
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
    assert not any(taken_over(standby, why) for why in ("stalled", "unshadowed", "orphaned"))
    status = standby.consumer.status()
    assert status.stalled == []
    assert {p.floor for p in await other.progress(Topic.MESSAGES, group=WORKER_GROUP)} - {
        None
    } == set(status.positions.values())


async def test_its_position_follows_and_a_worker_begins_there(
    start, stand_by, transport, other, database_pool, eventually
):
    sent = [message(f"c{i}", f"conv{i % 7}") for i in range(60)]
    await mirror(transport, other, *sent[:40])
    standby, worker = stand_by(patience=60), start()
    await eventually(lambda: is_at_the_end(database_pool, other))
    await standby.stop()
    standby = stand_by(patience=60, member="w2")
    await mirror(transport, other, *sent[40:])
    await eventually(lambda: is_at_the_end(database_pool, other))
    await eventually(partial(drained, other))
    await standby.stop()
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
    start, stand_by, transport, other, database_pool, eventually
):
    """The position is moved once a second, and at the end."""
    standby, worker = stand_by(patience=60), start()
    for turn in range(3):
        await mirror(transport, other, *(message(f"c{turn}.{i}", f"conv{i}") for i in range(8)))
        await eventually(lambda turn=turn: worker.count("persisted") == 8 * (turn + 1))
        await eventually(partial(_is_idle, standby))
        reached = standby.consumer.status().positions
        await standby.stop()
        stored = await through(database_pool, other)
        key = other.sort_key
        assert all(key(stored[p]) >= key(offset) for p, offset in reached.items())
        standby = stand_by(patience=60, member=f"w{turn + 2}")
    await eventually(lambda: is_at_the_end(database_pool, other))


async def test_a_standby_that_was_killed_before_it_moved_writes_nothing_again(
    start, stand_by, transport, other, database_pool, eventually
):
    """Also a record that became a dead letter: it becomes no second one."""
    sent = [message(f"c{i}", "conv") for i in range(20)]
    standby, worker = stand_by(patience=60), start()
    await mirror(transport, other, *sent[:5])
    await eventually(lambda: is_at_the_end(database_pool, other))
    start(DeadLetterIndexer, member="i1")
    await mirror(transport, other, *sent[5:], broken(message("bad", content="nul")))
    last = (await other.read(Topic.MESSAGES, P))[-1].offset
    await eventually(lambda: standby.consumer.status().positions[P] == last)
    await standby.kill()
    await eventually(partial(drained, transport))
    await worker.stop()
    with capture_logs() as logs:
        standby = stand_by(patience=60, member="w3")
        await eventually(lambda: is_at_the_end(database_pool, other))
        await standby.stop()
    assert [line["event"] for line in logs if line["log_level"] in ("warning", "error")] == []
    assert len(await transport.read(Topic.DEAD_LETTERS, 0)) == 1
    assert await other.read(Topic.DEAD_LETTERS, 0) == []
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 20


async def test_a_question_that_failed_is_asked_again(
    start, stand_by, transport, other, database_pool, database_url, eventually
):
    stand_by(patience=60)
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


def _is_idle(standby) -> bool:
    return not standby.consumer.waiting()


async def through(pool, log) -> dict[int, str]:
    """Return the position of each partition that has one."""
    rows = await pool.fetch("SELECT * FROM log_positions WHERE transport = $1", log.name)
    return {row["partition"]: row["through"] for row in rows if row["partition"] >= 0}


async def is_at_the_end(pool, log) -> bool:
    """Return whether PostgreSQL's positions have passed all that the log holds."""
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return await through(pool, log) == {part.partition: part.end or "" for part in progress}


async def test_nothing_is_acknowledged_beyond_the_first_that_is_not_settled(
    stand_by, transport, other, database_pool, writer, eventually
):
    """Whatever is settled in whatever order, by a worker that is this test."""
    random = Random(7)
    sent = [message(f"c{i}", f"conv{i % 5}") for i in range(200)]
    await mirror(transport, other, *sent, mode="async")
    stand_by(stream_batch_size=20)
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
    start, stand_by, transport, other, database_pool, eventually
):
    """A shadow with a hole: what stands after the hole must wait for the workers."""
    first, second = message("c1", content="first"), message("c2", content="second")
    for mode in ("async", "backfill", "sync"):
        await mirror(transport, other, first, second, mode=mode, dropped=(first,))
    standby = stand_by()
    await eventually(lambda: standby.consumer.status().stalled)
    (stall,) = standby.consumer.status().stalled
    assert "redis" in stall.reason
    assert (
        standby.metrics.registry.get_sample_value("stream_standby_stalled", {"transport": "memory"})
        == 1
    )
    assert await contents(database_pool) == []
    start()
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first", "second"]
    assert standby.consumer.status().stalled == []


async def test_a_standby_without_the_rules_would_reorder(
    start, stand_by, transport, other, database_pool, eventually, monkeypatch
):
    """The test above can fail: told that the log has no holes, it persists past one."""
    first, second = message("c1", content="first"), message("c2", content="second")
    await mirror(transport, other, first, second, dropped=(first,))
    stand_by(role=LogRole.MIRRORED)
    await eventually(lambda: contents(database_pool))
    start()
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == ["second", "first"]


async def test_the_mirrored_primary_is_persisted_when_nobody_else_does(
    start, stand_by, transport, other, database_pool, eventually
):
    """Redis is primary, its copies are to be consumed, and no worker does (the deadlock)."""
    sent = [message(f"c{i}", content=f"{i}") for i in range(120)]
    await mirror(transport, other, *sent)
    # A worker needs less to persist the last message.
    standby = stand_by(transport, LogRole.MIRRORED, patience=3, stream_batch_size=50)
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == [f"{i}" for i in range(120)]
    await eventually(lambda: taken_over(standby, "stalled") == 120)
    worker = start(log=other, member="w2")
    await eventually(partial(drained, other))
    await eventually(lambda: worker.count("duplicate") == 120)  # counted in the next turn
    later = message("late", content="late")
    await mirror(transport, other, later)
    await eventually(lambda: worker.count("persisted") == 1)
    await eventually(partial(drained, transport))
    assert taken_over(standby, "stalled") == 120, "it went on although the worker is there"


@pytest.mark.parametrize(
    ("role", "kinds"),
    [
        (LogRole.MIRRORED, {"original": TakeoverReason.STALLED, "sync": TakeoverReason.STALLED}),
        (LogRole.PRIMARY, {}),
        (LogRole.OTHER, {"original": TakeoverReason.UNSHADOWED}),
    ],
)
def test_a_copy_that_may_be_late_is_left_to_its_original(role, kinds):
    """A copy of async mode, or of a backfill, may stand behind messages that were sent after it."""
    sent = seal(message())
    copies = {mode: copy_of(sent, "redis", "1-0", mode) for mode in ("sync", "async")}
    for kind, envelope in {"original": sent, **copies}.items():
        headers = {name: value.encode() for name, value in envelope.headers.items()}
        record = Record("messages", 0, "0", sent.key, sent.body, headers, 0.0)
        assert role.why(record) is kinds.get(kind), kind


async def test_a_primary_that_is_not_mirrored_waits_to_be_consumed(
    stand_by, transport, other, database_pool, eventually
):
    """TRANSPORT changed and CONSUME_FROM not yet: the other log is drained first, in order."""
    await append(transport, message())
    standby = stand_by(transport, LogRole.PRIMARY)
    await eventually(lambda: standby.consumer.status().stalled)
    assert await contents(database_pool) == []
    assert await lag(transport) == 1


async def test_an_original_in_another_log_is_persisted_from_there(
    stand_by, transport, other, database_pool, eventually
):
    """A foreign producer's, or what TRANSPORT left behind: no other log will bring it."""
    garbage = raw(b"\xff no envelope", conversation="conv")
    await append(other, message("c1", content="1"), garbage, message("c2", content="2"))
    standby = stand_by()
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["1", "2"]
    assert taken_over(standby, "unshadowed") == 3
    (letter,) = await other.read(Topic.DEAD_LETTERS, 0)
    assert letter.body == garbage.body


async def test_each_record_is_asked_about_and_not_only_the_first(
    stand_by, transport, other, database_pool, eventually
):
    """Behind an original of this log stands a copy of what the other log has, after another."""
    first, second = message("c1", content="1"), message("c2", content="2")
    _, offset = await append(transport, first, second)
    await append(other, message("own", content="own"))
    await append(other, copy_of(seal(second), "redis", offset, "async"))
    stand_by()
    await eventually(lambda: contents(database_pool))
    assert await contents(database_pool) == ["own"]
    assert await lag(other) > 0


async def test_a_copy_whose_original_was_lost_is_persisted(
    start, stand_by, transport, other, database_pool, eventually
):
    """The workers' log lost what was acknowledged: the copy, of whatever mode, is all there is."""
    lost = [message(f"lost{i}", content=f"{i}") for i in range(30)]
    offsets = await append(transport, *lost)
    worker = start()
    await eventually(partial(drained, transport))
    await worker.stop()
    await database_pool.execute("DELETE FROM messages")
    copies = [
        copy_of(seal(event), "redis", offset, "async")
        for event, offset in zip(lost, offsets, strict=True)
    ]
    await append(other, *copies)
    standby = stand_by()
    await eventually(partial(drained, other))
    assert await contents(database_pool) == [f"{i}" for i in range(30)]
    assert taken_over(standby, "orphaned") == 30


async def test_a_dead_letter_settles_its_copy_whatever_was_wrong(
    start, stand_by, transport, other, database_pool, eventually
):
    first, another = message("c1", content="first"), message("c1", content="another body")
    bad = [
        another,
        broken(message("c9", content="nul")),
        receipt(message("never sent")),
        raw(b"\xff no envelope"),
    ]
    await mirror(transport, other, first, *bad, message("c2", content="second"), mode="async")
    standby = stand_by(patience=60)  # the indexer's rows settle them
    start()
    start(DeadLetterIndexer, member="i1")
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first", "second"]
    assert await database_pool.fetchval("SELECT count(*) FROM dead_letters") == 4
    assert await other.read(Topic.DEAD_LETTERS, 0) == []
    assert not any(taken_over(standby, why) for why in ("stalled", "unshadowed", "orphaned"))
    noted = await positions(database_pool, "memory")
    # The conflict's is not its message's, nor is a receipt's.
    partition, offset = noted[first.message_id]
    bodies = {record.offset: record.body for record in await other.read(Topic.MESSAGES, partition)}
    assert bodies[offset] == seal(first).body
    assert set(noted) == {first.message_id, message("c2").message_id}


async def test_where_a_redriven_message_stands_is_where_it_came_back_to(
    start, stand_by, transport, other, database_pool, eventually, metrics
):
    await database_pool.execute("ALTER TABLE messages ADD CONSTRAINT hurt CHECK (false)")
    sent = message("c1")
    await mirror(transport, other, sent, mode="sync")
    stand_by(patience=60)
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
    start, stand_by, transport, other, database_pool, eventually, swapped
):
    """Both logs are consumed one after the other, as when CONSUME_FROM changes in the middle."""
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
    start, stand_by, transport, other, database_pool, eventually, metrics
):
    """Its old letter does not settle it, and if it fails again there is another letter."""
    orphan = receipt(message("later"))
    await mirror(transport, other, orphan)
    start(log=other)
    start(DeadLetterIndexer, member="i1", log=other)
    await eventually(lambda: database_pool.fetchval("SELECT count(*) FROM dead_letters"))
    standby = stand_by(transport, LogRole.MIRRORED, patience=60)
    await eventually(partial(drained, transport))

    redriver = Redriver(database_pool, transport, metrics)
    await redriver.wait(await redriver.start(Selection(), by="test"))
    (again,) = [record for p in range(PARTITIONS) for record in await unread(transport, p)]
    assert "mirrorOf" not in again.headers
    await eventually(lambda: standby.consumer.status().epochs)
    assert await lag(transport) == 1, "the letter of the first time settled the second"
    redriven = msgspec.structs.replace(seal(orphan), headers={HEADER_REDRIVES: "1"})
    await append(other, copy_of(redriven, "redis", again.offset))
    await eventually(lambda: database_pool.fetchval("SELECT count(*) = 2 FROM dead_letters"))
    await eventually(partial(drained, transport))
