"""What a process appends is persisted without being read from the log, and as if it had been."""

from __future__ import annotations

import gc

import pytest

from otel.tracing.deliveries import TracedDeliveries
from otel.tracing.sampling import EVERY, Sampling
from otel.tracing.span import Endpoint, Span
from persistence.store.group_writer import PendingBatch
from persistence.store.statement import LOCK_CLASS
from tests.persistence.loglib import append, contents, lag, letters
from tests.persistence.samples import message, receipt
from transport.contract import Reason
from transport.redis import reading

WAITING = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
LOCK = "SELECT pg_advisory_xact_lock($1, p) FROM generate_series(0, 3) AS p"


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The partition of each read from the server."""
    made, read = list[int](), reading.read

    async def counted(functions, log, partition, after, limit):
        made.append(partition)
        return await read(functions, log, partition, after, limit)

    monkeypatch.setattr(reading, "read", counted)
    return made


async def is_settled(transport) -> bool:
    return await lag(transport) == 0


@pytest.fixture
def until_handed_over(transport, reads, eventually):
    """Wait until a message to each partition is persisted without a read."""
    turns = iter(range(1000))

    async def is_handed_over() -> bool:
        turn, before = next(turns), len(reads)
        await append(transport, *(message(f"w{turn}.{i}", f"warm{i}") for i in range(32)))
        await eventually(lambda: is_settled(transport))
        return len(reads) == before

    async def wait() -> None:
        await eventually(is_handed_over)

    return wait


async def test_what_a_process_appends_is_persisted_without_being_read(
    start, transport, until_handed_over, reads, database_pool, eventually
):
    worker = start(stream_poll_interval_ms=60_000)
    await until_handed_over()
    before, already = len(reads), worker.count("persisted")
    sent = [message(f"c{i}", f"conv{i % 7}", f"{i}") for i in range(100)]
    for first in range(0, 100, 10):
        await append(transport, *sent[first : first + 10])
    await eventually(lambda: is_settled(transport))
    assert len(reads) == before
    assert worker.count("persisted") == already + 100
    for conversation in range(7):
        expected = [m.content for m in sent if m.conversation_id == f"conv{conversation}"]
        assert await contents(database_pool, f"conv{conversation}") == expected


async def test_what_was_handed_over_and_stored_leaves_no_circle_in_memory(
    start, transport, until_handed_over, eventually
):
    start(stream_poll_interval_ms=60_000)
    await until_handed_over()
    gc.collect()
    gc.disable()
    try:
        await append(transport, *(message(f"c{i}", f"conv{i}") for i in range(10)))
        await eventually(lambda: is_settled(transport))
        assert [item for item in gc.get_objects() if isinstance(item, PendingBatch)] == []
    finally:
        gc.enable()


async def test_what_follows_a_record_at_fault_does_not_overtake_it(
    start, transport, until_handed_over, database_pool, eventually
):
    worker = start(stream_poll_interval_ms=60_000, stream_max_retries=3)
    await until_handed_over()
    one, three, four, five = (message(f"c{i}", content=f"{i}") for i in (1, 3, 4, 5))
    async with database_pool.acquire() as blocker, blocker.transaction():
        await blocker.execute(LOCK, LOCK_CLASS)
        await append(transport, one, receipt(message("never sent")), three)
        await eventually(lambda: database_pool.fetchval(WAITING))
        await append(transport, four)
        await append(transport, message("c1", content="another"), five)
    await eventually(lambda: is_settled(transport))
    assert await contents(database_pool) == ["1", "3", "4", "5"]
    assert [letter.reason for letter in await letters(transport)] == [
        Reason.ORPHAN_RECEIPT,
        Reason.IDEMPOTENCY_CONFLICT,
    ]
    assert worker.count("dead_lettered") == 2


async def test_what_is_refused_leaves_whole_traces(
    start, transport, until_handed_over, database_pool, eventually
):
    spans: list[Span] = []
    sampling = Sampling(EVERY, parent_based=True)
    endpoints = {"redis": Endpoint("redis", transport.location)}
    start(
        stream_poll_interval_ms=60_000,
        deliveries=TracedDeliveries(spans.append, sampling, endpoints),
    )
    await until_handed_over()
    await append(transport, message("c1", content="1"))
    await eventually(lambda: is_settled(transport))
    async with database_pool.acquire() as blocker, blocker.transaction():
        await blocker.execute(LOCK, LOCK_CLASS)
        await append(transport, message("c1", content="another"))
        await eventually(lambda: database_pool.fetchval(WAITING))
        await append(transport, message("c2", content="2"))
    await eventually(lambda: is_settled(transport))
    await eventually(lambda: sum(span.name == "ack msg:stream" for span in spans) % 32 == 3)
    made = {span.span_id for span in spans}
    assert {span.parent_id for span in spans if not span.remote} - {None} <= made
    errors = [span.error for span in spans if span.name == "process msg:stream" and span.error]
    assert errors == ["idempotency_conflict"]


async def test_what_postgresql_does_not_take_waits_in_the_log(
    start, transport, until_handed_over, database_pool, eventually
):
    """And not in the memory of the process: what has no room is read when its turn comes."""
    start(stream_poll_interval_ms=60_000, stream_batch_size=40)
    await until_handed_over()
    async with database_pool.acquire() as blocker, blocker.transaction():
        await blocker.execute(LOCK, LOCK_CLASS)
        await append(transport, message("first", content="first"))
        await eventually(lambda: database_pool.fetchval(WAITING))
        for first in range(0, 300, 10):
            some = range(first, first + 10)
            await append(transport, *(message(f"c{n}", content=f"{n}") for n in some))
        gc.collect()  # earlier tests' batches are not held, only not collected yet
        waiting = [item for item in gc.get_objects() if isinstance(item, PendingBatch)]
        assert sum(batch.rows for batch in waiting) <= 2 * 40 + 10
        waiting.clear()
    await eventually(lambda: is_settled(transport))
    assert await contents(database_pool) == ["first", *(f"{number}" for number in range(300))]


async def test_rows_that_are_stored_beside_a_conflict_count_as_persisted(
    start, transport, until_handed_over, eventually
):
    worker = start(stream_poll_interval_ms=60_000)
    await until_handed_over()
    await append(transport, message("c1", content="1"))
    await eventually(lambda: is_settled(transport))
    before = worker.count("persisted")
    two, three = message("c2", content="2"), message("c3", content="3")
    await append(transport, two, message("c1", content="another"), three)
    await eventually(lambda: is_settled(transport))
    assert worker.count("persisted") == before + 2


async def test_what_a_killed_worker_was_handed_is_persisted_once_by_the_next(
    start, transport, until_handed_over, database_pool, eventually
):
    first = start(member="w1", stream_poll_interval_ms=60_000)
    await until_handed_over()
    async with database_pool.acquire() as blocker, blocker.transaction():
        await blocker.execute(LOCK, LOCK_CLASS)
        await append(transport, *(message(f"c{i}", content=f"{i}") for i in range(10)))
        await eventually(lambda: database_pool.fetchval(WAITING))
        await append(transport, *(message(f"c{i}", content=f"{i}") for i in range(10, 20)))
        await first.kill()
        assert await lag(transport) == 20
    start(member="w2")
    await eventually(lambda: is_settled(transport))
    assert await contents(database_pool) == [f"{i}" for i in range(20)]
