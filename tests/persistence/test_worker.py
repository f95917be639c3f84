"""From the log to rows: in order, once, acknowledged, whatever else is in the batch."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import structlog

from persistence.metrics import IdempotencyMetrics, PersistenceMetrics
from persistence.store.statement import LOCK_CLASS
from tests.persistence.loglib import append, broken, contents, lag, letters, raw
from tests.persistence.samples import PARTITIONS, message, receipt
from tests.support.metric_values import value_of
from transport.contract import Reason
from transport.features.forwarding import Forwarding

PROCESS = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, owned, started_at, seen_at)
VALUES ('another', 'worker', 'h', 1, '1', 'u', 'u', 'redis', 'redis', '{"redis": {}}', now(),
    now() + interval '9 s')
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_what_is_in_the_log_becomes_rows_in_log_order(
    start, transport, database_pool, eventually
):
    sent = [message(f"c{i}", f"conv{i % 7}", f"{i}") for i in range(700)]
    await append(transport, *sent, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    with structlog.testing.capture_logs() as logs:
        worker = start()
        await eventually(lambda: worker.count("persisted") == 700)
        await worker.stop()
    for conversation in range(7):
        expected = [m.content for m in sent if m.conversation_id == f"conv{conversation}"]
        assert await contents(database_pool, f"conv{conversation}") == expected
    assert await lag(transport) == 0
    row = await database_pool.fetchrow("SELECT min(trace_id), max(attempts) FROM messages")
    assert tuple(row) == (TRACE, 1)
    assert sum(log["count"] for log in logs if log["event"] == "Persisted") == 700


async def test_an_id_or_a_key_of_another_message_is_dead_lettered_and_takes_nobodys_place(
    start, transport, database_pool, eventually
):
    """As another producer may send it: it would be a second row of its key, or take another's."""
    mine, other = message("mine"), message("other")
    foreign = [
        message("mine", content="x", message_id=str(uuid4())),
        message("other", content="x", message_id=mine.message_id),
        message("third", content="x", idempotency_key=mine.idempotency_key),
        message("third", "elsewhere", "x", message_id=message("third").message_id),
    ]
    await append(transport, *foreign, mine, other)
    worker = start()
    await eventually(lambda: worker.count("persisted") == 2)
    await worker.stop()
    assert await contents(database_pool) == ["hello", "hello"]
    ids = [str(row[0]) for row in await database_pool.fetch("SELECT id FROM messages ORDER BY seq")]
    assert ids == [mine.message_id, other.message_id]
    found = await letters(transport)
    assert [letter.reason for letter in found] == [Reason.UNDECODABLE] * len(foreign)
    assert all("leave it out" in letter.error for letter in found)


async def test_records_at_fault_are_dead_lettered_with_bytes_intact_and_the_rest_goes_on(
    start, transport, database_pool, eventually
):
    one, two, three = (message(f"c{i}", content=f"{i}") for i in range(3))
    other = message("c1", content="plugh")
    nul = broken(message("c9", content="xyzzy"))
    orphan = receipt(message("never sent"))
    garbage = raw(b"\xff\x00 no envelope", odd="header")
    with structlog.testing.capture_logs() as logs:
        await append(transport, one, garbage, two, nul, other, orphan, receipt(one), three)
        worker = start(stream_max_retries=3)
        await eventually(lambda: worker.count("persisted") == 4)
        await worker.stop()
    assert await contents(database_pool) == ["0", "1", "2"]
    assert await lag(transport) == 0
    found = {letter.reason: letter for letter in await letters(transport)}
    reasons = set(Reason) - {Reason.PAYLOAD_MISSING, Reason.PAYLOAD_CORRUPT}  # of tests/payloads
    assert set(found) == reasons
    assert found[Reason.UNDECODABLE].record.body == garbage.body
    assert found[Reason.UNDECODABLE].record.headers == {"odd": b"header"}
    assert found[Reason.REJECTED].record.body == nul.body
    assert found[Reason.REJECTED].attempts == found[Reason.ORPHAN_RECEIPT].attempts == 3
    assert "xyzzy" not in found[Reason.REJECTED].error
    assert worker.count("dead_lettered") == 4
    for reason in reasons:
        assert (
            value_of(worker.metrics.of(PersistenceMetrics).dead_letters.labels(reason.value)) == 1
        )
    failed = [log for log in logs if log["event"].startswith("Failed: ")]
    assert {log["reason"] for log in failed} == {reason.value for reason in reasons}
    assert "plugh" not in str(logs)


async def test_a_repeat_in_the_log_is_one_row_and_counted(start, transport, eventually):
    await append(transport, message("a"), message("a"), message("b"), message("a"))
    worker = start()
    await eventually(lambda: worker.count("persisted") == 2 and worker.count("duplicate") == 2)
    assert value_of(worker.metrics.of(IdempotencyMetrics).hits.labels("persist")) == 2
    assert value_of(worker.metrics.of(IdempotencyMetrics).requests.labels("persist")) == 4


async def test_a_new_record_wakes_an_idle_worker_at_once(start, transport, eventually):
    worker = start(stream_poll_interval_ms=60_000)
    await eventually(lambda: len(worker.consumer.status().partitions) == PARTITIONS)
    await append(transport, message())
    await eventually(lambda: worker.count("persisted") == 1)


async def test_an_idle_worker_stops_at_once(start, eventually):
    worker = start(stream_poll_interval_ms=60_000)
    await eventually(lambda: len(worker.consumer.status().partitions) == PARTITIONS)
    await worker.stop()  # within the test's timeout, which is far below the poll interval
    assert worker.consumer.status().partitions == []


async def test_a_stop_finishes_the_batch_in_hand_and_acknowledges_it(
    start, transport, database_pool, eventually
):
    await append(transport, *(message(f"c{i}") for i in range(10)))
    async with database_pool.acquire() as blocker, blocker.transaction():
        locks = "SELECT pg_advisory_xact_lock($1, p) FROM generate_series(0, 3) AS p"
        await blocker.execute(locks, LOCK_CLASS)
        worker = start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await eventually(lambda: database_pool.fetchval(waiting))
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)
        assert not worker.task.done()
    await stopping
    assert len(await contents(database_pool)) == 10
    assert await lag(transport) == 0


async def test_a_killed_workers_batch_is_persisted_once_by_the_next(
    start, transport, database_pool, eventually
):
    await append(transport, *(message(f"c{i}", content=f"{i}") for i in range(300)))
    first = start(member="w1", stream_batch_size=20)
    await eventually(lambda: first.count("persisted") >= 40)
    await first.kill()
    second = start(member="w2")
    await eventually(lambda: lag_is_zero(transport))
    assert await contents(database_pool) == [f"{i}" for i in range(300)]
    assert first.count("persisted") + second.count("persisted") <= 300


async def test_two_workers_share_the_partitions(start, alive, transport, eventually):
    await alive("w1", "w2")
    one, two = start(member="w1"), start(member="w2")

    def shared() -> bool:
        mine, theirs = (w.consumer.status().partitions for w in (one, two))
        return len(mine) == len(theirs) == 2 and {*mine, *theirs} == {0, 1, 2, 3}

    await eventually(shared)
    await append(transport, *(message(f"c{i}", f"conv{i}") for i in range(200)))
    await eventually(lambda: one.count("persisted") + two.count("persisted") == 200)
    assert one.count("persisted") > 0 < two.count("persisted")


async def test_a_worker_that_lost_its_fence_writes_nothing_and_moves_no_position(
    start, transport, database_pool, eventually
):
    worker = start()
    await eventually(lambda: len(worker.consumer.status().partitions) == PARTITIONS)
    await eventually(lambda: database_pool.fetchval("SELECT count(*) = 4 FROM log_positions"))
    await database_pool.execute(PROCESS)
    async with database_pool.acquire() as taker, taker.transaction():
        await taker.execute("UPDATE fences SET epoch = epoch + 1, owner = 'another'")
        await taker.execute("UPDATE log_positions SET epoch = epoch + 1")
    with structlog.testing.capture_logs() as logs:
        await append(transport, message())
        await eventually(lambda: any("Partition left" in log["event"] for log in logs))
    assert await contents(database_pool) == []
    assert await database_pool.fetchval("SELECT max(through) FROM log_positions") == ""
    assert await letters(transport) == []


class Silent(Forwarding):
    """A log that no position gets to: the process dies before it shows one."""

    async def publish_positions(self, topic, positions, *, group) -> None:
        await asyncio.Event().wait()


async def test_a_crash_between_the_commit_and_the_position_in_the_log_repeats_nothing(
    start, transport, database_pool, eventually
):
    events = [message(f"c{n}", f"conv{n % 40}", f"{n}") for n in range(200)]
    await append(transport, *events)
    crashed = start(log=Silent(transport))
    await eventually(lambda: crashed.count("persisted") == len(events))
    await crashed.kill()
    assert await lag(transport) == len(events)
    again = start(member="w2")
    await eventually(lambda: lag_is_zero(transport))
    assert (again.count("duplicate"), again.count("persisted")) == (0, 0)
    for n in range(40):
        assert await contents(database_pool, f"conv{n}") == [f"{m}" for m in range(n, 200, 40)]


async def lag_is_zero(transport) -> bool:
    return await lag(transport) == 0
