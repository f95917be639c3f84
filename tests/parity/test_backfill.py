"""Backfill on real servers: what parity names is repaired, once, in order, whatever interrupts."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter

import msgspec
import pytest

from migration_guide.backfill.request import Request
from migration_guide.backfill.run import Backfill
from migration_guide.parity.check import check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult, Verdict
from persistence.fleet.leader_lock import elected
from persistence.jobs.table import JobRunning, JobStopped, JobTable
from persistence.store.batch import PositionedEvent
from persistence.store.writer import Writer
from tests.parity.mirroring import every, message, send
from transport.contract import Appended
from transport.errors import TransportUnavailable
from transport.features.forwarding import Forwarding
from transport.message.envelope import Receipt, decode, seal_receipt
from transport.message.partitioner import partition_for

# No clock is believed: `send` accepts all its messages before it appends the first, so on a busy
# machine the clocks would show, rightly, that what a backfill exchanged had overlapped.
AT_ONCE = ParityLimits(settle=0.0, samples=100, tolerance=3600.0)


def request(**changes) -> Request:
    return Request(**{"rate": 0, "by": "test", "limits": AT_ONCE, **changes})


def counts(report) -> dict[ParityResult, int]:
    return {result: n for result, n in report.totals.counts.items() if n}


async def compared(one, two, **options):
    return await check(one, two, limits=AT_ONCE, **options)


@pytest.mark.parametrize("direction", ["redis-to-kafka", "kafka-to-redis"])
async def test_lost_copies_are_named_repaired_and_equal_again(
    direction, redis_log, kafka_log, database_pool
):
    one, two = (redis_log, kafka_log) if direction.startswith("redis") else (kafka_log, redis_log)
    offsets = await send(one, two, range(200), copied=lambda n: n < 20 or n % 10)
    lost = {message(n).message_id: offsets[n] for n in range(20, 200, 10)}
    report = await compared(one, two)
    assert counts(report) == {ParityResult.MATCHED: 182, ParityResult.MISSING_IN_SHADOW: 18}
    named = {s.message_id: s.primary_offset for s in report.samples}
    assert named == lost
    assert all(s.shadow_offset is None and s.trace_id for s in report.samples)

    assert (await Backfill(database_pool, one, two, request()).preview()).missing == 18
    status = await Backfill(database_pool, one, two, request()).run()
    assert (status.stage, status.appended) == ("done", 18)
    report = await compared(one, two)
    found = counts(report)
    assert found.pop(ParityResult.ORDER_BACKFILLED) > 0
    assert found == {ParityResult.MATCHED: 200}
    assert report.totals.verdict is Verdict.EQUAL

    # Again: nothing is appended twice.
    status = await Backfill(database_pool, one, two, request()).run()
    assert status.appended == 0
    copies = Counter(r.headers["messageId"] for r in await every(two))
    assert set(copies.values()) == {1}
    backfilled = [r for r in await every(two) if r.headers["shadowMode"] == b"backfill"]
    assert {r.headers["mirrorOf"].decode() for r in backfilled} == {
        f"{one.name}:{offset}" for offset in lost.values()
    }


async def test_it_ends_beside_a_shadow_that_goes_on_losing_copies(
    redis_log, kafka_log, database_pool
):
    await send(redis_log, kafka_log, range(50), copied=lambda n: n % 10)

    async def lose() -> None:
        for number in itertools.count(50):
            await send(redis_log, kafka_log, range(number, number + 1), copied=lambda _: False)

    losing = asyncio.create_task(lose())
    try:
        async with asyncio.timeout(60):
            status = await Backfill(database_pool, redis_log, kafka_log, request()).run()
    finally:
        losing.cancel()
    assert status.stage == "done"
    copied = Counter(record.headers["messageId"].decode() for record in await every(kafka_log))
    assert all(copied[message(number).message_id] == 1 for number in range(50))
    assert set(copied.values()) == {1}


@pytest.mark.parametrize("direction", ["redis-to-kafka", "kafka-to-redis"])
async def test_the_next_one_begins_where_all_was_known_to_be_equal(
    direction, redis_log, kafka_log, database_pool
):
    one, two = (redis_log, kafka_log) if direction.startswith("redis") else (kafka_log, redis_log)
    await send(one, two, range(200), copied=lambda n: n < 20 or n % 50)
    first = await Backfill(database_pool, one, two, request()).run()
    assert first.appended == 3
    # Of each partition of the target the record at the place, and what was appended last.
    again = await Backfill(database_pool, one, two, request()).run()
    assert (again.appended, again.examined <= 3 + 4) == (0, True)
    # At the place, behind it, and at the end.
    await send(one, two, range(200, 300), copied=lambda n: n not in (200, 250, 299))
    third = await Backfill(database_pool, one, two, request()).run()
    assert (third.appended, third.examined < 250) == (3, True)
    report = await compared(one, two)
    found = counts(report)
    found.pop(ParityResult.ORDER_BACKFILLED)
    assert found == {ParityResult.MATCHED: 300}
    # Another order asks for something else, and is not answered by this one's place.
    everything = await Backfill(database_pool, one, two, request(everything=True)).preview()
    assert (everything.missing, everything.examined) == (0, 600)


async def test_what_cannot_be_copied_is_told_by_each_run(
    redis_log, kafka_log, redis_client, database_pool
):
    await redis_client.xadd("msg:stream:0", {b"key": b"no \xff text", b"body": b"any"})
    for numbers in (range(40), range(40, 80)):
        await send(redis_log, kafka_log, numbers, copied=lambda n: n % 20)
        status = await Backfill(database_pool, redis_log, kafka_log, request()).run()
        assert (status.refused, status.appended) == (1, 2)


class Stops:
    """A log that works for so many appends and then is away, or hangs."""

    def __init__(self, inner, appends: int, *, hang: bool = False) -> None:
        self.inner = inner
        self.left = appends
        self.hang = hang
        self.stopped = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def publish(self, envelopes, *, remember=True):
        outcomes = await self.inner.publish(envelopes, remember=remember)
        self.left -= 1
        if self.left == 0:
            self.stopped.set()
            if self.hang:
                await asyncio.Event().wait()  # appended, and the answer is lost
            return [TransportUnavailable("away")] * len(envelopes)
        return outcomes


async def test_killed_in_the_middle_it_goes_on_and_appends_nothing_twice(
    redis_log, kafka_log, database_pool
):
    await send(redis_log, kafka_log, range(400), copied=lambda n: n < 40)
    hanging = Stops(kafka_log, 3, hang=True)
    first = Backfill(database_pool, redis_log, hanging, request(rate=40_000))
    task = asyncio.create_task(first.run())
    await hanging.stopped.wait()
    task.cancel()
    await asyncio.wait([task])
    assert first.appends.job is not None
    progress = await JobTable(database_pool).get(first.appends.job.id)
    assert progress is not None
    assert progress.state == "interrupted"

    noted = await database_pool.fetchval("SELECT cursor FROM jobs")
    assert json.loads(noted) == first.appends.cursor
    second = Backfill(database_pool, redis_log, kafka_log, request())
    status = await second.run()
    assert second.appends.job is not None
    assert second.appends.job.id == first.appends.job.id  # the same one, taken up
    assert status.appended < 360
    records = await every(kafka_log)
    assert len(records) == len({r.headers["messageId"] for r in records}) == 400
    assert (await compared(redis_log, kafka_log)).totals.verdict is Verdict.EQUAL


async def test_an_outage_is_waited_out_and_unknown_appends_are_looked_for(
    redis_log, kafka_log, database_pool
):
    await send(redis_log, kafka_log, range(200), copied=lambda n: n < 20)
    away = Stops(kafka_log, 1)
    status = await Backfill(database_pool, redis_log, away, request()).run()
    assert status.stage == "done"
    records = await every(kafka_log)
    assert len(records) == len({r.headers["messageId"] for r in records}) == 200


async def test_beside_live_traffic_it_repairs_and_doubles_nothing(
    redis_log, kafka_log, database_pool, eventually
):
    await send(redis_log, kafka_log, range(300), copied=lambda n: n < 20 or n % 3)
    lost_until = time.time()
    done = asyncio.Event()

    async def live() -> int:
        number = 1000
        while not done.is_set():
            await send(redis_log, kafka_log, range(number, number + 10))
            number += 10
        return number - 1000

    sender = asyncio.create_task(live())
    quiet = request(rate=200, limits=ParityLimits(settle=1.0))
    await eventually(lambda: time.time() > lost_until + quiet.limits.settle)
    began = time.time()
    settled = asyncio.create_task(Backfill(database_pool, redis_log, kafka_log, quiet).run())
    await settled
    # What was lost a second before it began is all there; at 200 a second it took its time.
    assert time.time() - began > 0.2
    done.set()
    sent = await sender
    await Backfill(database_pool, redis_log, kafka_log, request()).run()
    report = await compared(redis_log, kafka_log)
    found = counts(report)
    found.pop(ParityResult.ORDER_BACKFILLED, 0)
    assert found == {ParityResult.MATCHED: 300 + sent}
    assert sent > 0


async def test_a_cancelled_one_stops_and_is_not_taken_up(
    redis_log, kafka_log, database_pool, eventually
):
    await send(redis_log, kafka_log, range(100), copied=lambda n: n < 20)
    jobs = JobTable(database_pool)
    slow = Backfill(database_pool, redis_log, kafka_log, request(rate=20))
    task = asyncio.create_task(slow.run())
    await eventually(lambda: slow.status.appended)
    assert slow.appends.job is not None
    with pytest.raises(JobRunning):
        await Backfill(database_pool, redis_log, kafka_log, request()).run()
    assert await jobs.cancel(slow.appends.job.id)
    with pytest.raises(JobStopped):
        await task
    progress = await jobs.get(slow.appends.job.id)
    assert progress is not None
    assert (progress.state, progress.done < 80) == ("cancelled", True)
    again = Backfill(database_pool, redis_log, kafka_log, request())
    await again.run()
    assert again.appends.job is not None
    assert again.appends.job.id != slow.appends.job.id


async def test_the_ledgers_gaps_are_closed_where_everything_was_seen(
    redis_log, kafka_log, database_pool
):
    offsets = await send(redis_log, kafka_log, range(40), copied=lambda n: n < 20)
    at = {r.offset: r.partition for r in await every(redis_log)}
    gap = "INSERT INTO shadow_gaps (transport, shadow, partition, kind, first_offset, last_offset,"
    gap += " records, noted_by) VALUES ($1, 'kafka', $2, 'queue_full', $3, $3, 1, 'test')"
    await database_pool.execute(gap, "redis", at[offsets[30]], offsets[30])
    await database_pool.execute(gap, "redis", at[offsets[31]], "1-0")  # trimmed long ago
    await database_pool.execute(gap, "redis", 0, None)
    await database_pool.execute(gap, "elsewhere", 0, "0")
    status = await Backfill(database_pool, redis_log, kafka_log, request()).run()
    assert status.gaps_repaired == 2
    rows = await database_pool.fetch(
        "SELECT first_offset, repaired_at IS NOT NULL AS closed FROM shadow_gaps ORDER BY id"
    )
    assert [row["closed"] for row in rows] == [True, False, True, False]


async def test_no_clock_closes_a_gap_whose_record_was_left_to_the_shadow(
    redis_log, kafka_log, database_pool
):
    """PostgreSQL's clock is an hour behind, so the gap is noted as long before its record."""
    (offset,) = (await send(redis_log, kafka_log, [1], copied=lambda _: False)).values()
    ((at, _),) = [(record.partition, record.offset) for record in await every(redis_log)]
    gap = "INSERT INTO shadow_gaps (transport, shadow, partition, kind, first_offset, last_offset,"
    gap += " records, noted_by, noted_at) VALUES ('redis', 'kafka', $1, 'closed', $2, $2, 1,"
    await database_pool.execute(gap + " 'test', now() - interval '1 hour')", at, offset)
    is_open = "SELECT repaired_at IS NULL FROM shadow_gaps"
    young = msgspec.structs.replace(AT_ONCE, settle=600)
    status = await Backfill(database_pool, redis_log, kafka_log, request(limits=young)).run()
    assert (status.appended, status.gaps_repaired) == (0, 0)
    assert await database_pool.fetchval(is_open)
    status = await Backfill(database_pool, redis_log, kafka_log, request()).run()
    assert (status.appended, status.gaps_repaired) == (1, 1)
    assert not await database_pool.fetchval(is_open)


async def persist(log, pool, numbers) -> None:
    """Make rows of what the log has, as its workers do."""
    writer = Writer(pool)
    for record in await every(log):
        number = int(record.headers["correlationId"].decode().rpartition("-")[2])
        if number in numbers:
            trace = record.headers["traceparent"].decode()[3:35]
            placed = PositionedEvent(
                decode(record), log.name, record.partition, record.offset, trace
            )
            await writer.write([placed], None)


async def test_what_redis_trimmed_comes_back_from_the_rows(
    redis_log, kafka_log, redis_client, database_pool
):
    await send(redis_log, kafka_log, range(60), copied=lambda n: n < 8 or n % 4)
    before = {r.headers["messageId"]: r for r in await every(redis_log)}
    await persist(redis_log, database_pool, range(60))
    receipt = Receipt(message(12).message_id, "r", "read", message(12).accepted_at, "c")
    sealed = seal_receipt(receipt, partitions=4, traceparent=None)
    (outcome,) = await redis_log.publish([sealed])
    assert isinstance(outcome, Appended)
    row = PositionedEvent(receipt, "redis", sealed.partition, outcome.offset, None)
    await Writer(database_pool).write([row], None)
    for partition in range(4):
        await redis_client.xtrim(f"msg:stream:{partition}", maxlen=0)
    lost = [n for n in range(8, 60) if n % 4 == 0]
    status = await Backfill(database_pool, redis_log, kafka_log, request()).run()
    assert status.appended == 0  # the log has nothing to copy
    rows = request(from_rows=True)
    preview = await Backfill(database_pool, redis_log, kafka_log, rows).preview()
    assert preview.missing == len(lost) + 1
    status = await Backfill(database_pool, redis_log, kafka_log, rows).run()
    assert status.appended == len(lost) + 1
    after = {
        r.headers["messageId"]: r for r in await every(kafka_log) if b'"receipt"' not in r.body
    }
    for number in lost:
        was, now = (x[message(number).message_id.encode()] for x in (before, after))
        assert now.body == was.body  # byte for byte
        assert (now.key, now.partition) == (was.key, was.partition)
        assert now.headers["mirrorOf"].decode() == f"redis:{was.offset}"
        assert now.headers["traceparent"][:35] == was.headers["traceparent"][:35]
    assert (await Backfill(database_pool, redis_log, kafka_log, rows).run()).appended == 0


async def test_what_redis_lost_in_the_middle_comes_back_from_the_rows(
    redis_log, kafka_log, redis_client, database_pool
):
    """A failover lost it, or an XDEL: it is younger than the first record that Redis holds."""
    offsets = await send(redis_log, kafka_log, range(20), copied=lambda n: n not in {9, 10})
    await persist(redis_log, database_pool, range(20))
    home = partition_for(message(9).conversation_id, redis_log.partitions)
    assert await redis_client.xdel(f"msg:stream:{home}", offsets[9]) == 1
    rows = request(from_rows=True)
    assert (await Backfill(database_pool, redis_log, kafka_log, rows).run()).appended == 1
    assert (await Backfill(database_pool, redis_log, kafka_log, request()).run()).appended == 1
    copies = Counter(r.headers["messageId"].decode() for r in await every(kafka_log))
    assert copies == {message(n).message_id: 1 for n in range(20)}


async def test_a_row_whose_record_comes_while_the_logs_are_read_is_left_to_the_shadow(
    redis_log, kafka_log, database_pool
):
    """Redis has its record, behind what was read. A copy from the row would be a second one."""
    await send(redis_log, kafka_log, range(4))
    await persist(redis_log, database_pool, range(4))

    class Late(Forwarding):
        """Kafka, which is read after Redis. A message is sent and persisted before that."""

        came = False

        async def read(self, *place, **how):
            if not self.came:
                self.came = True
                await send(redis_log, kafka_log, [4], copied=lambda _: False)
                await persist(redis_log, database_pool, [4])
            return await super().read(*place, **how)

    late = Late(kafka_log)
    rows = request(from_rows=True)
    assert (await Backfill(database_pool, redis_log, late, rows).run()).appended == 0
    assert late.came


async def test_rows_of_a_partition_that_was_added_to_a_topic_are_copied(
    redis_log, kafka_log, database_pool
):
    """Other producers may use it. Its offsets mean other records than those that are compared."""
    await send(kafka_log, redis_log, range(1, 20))
    added = PositionedEvent(message(0), "kafka", 20, "1000", None)
    await Writer(database_pool).write([added], None)
    rows = request(from_rows=True)
    status = await Backfill(database_pool, kafka_log, redis_log, rows).run()
    assert status.appended == 1
    name = message(0).message_id.encode()
    (copy,) = [r for r in await every(redis_log) if r.headers["messageId"] == name]
    assert copy.partition == partition_for("c0", redis_log.partitions)
    report = await check(kafka_log, redis_log, limits=AT_ONCE)
    assert report.totals.verdict is Verdict.EQUAL
    assert report.totals.of(ParityResult.MATCHED) == 19


async def test_only_one_process_is_elected(database_pool):
    async with elected(database_pool, "x") as first, elected(database_pool, "x") as second:
        assert first is not None
        assert second is None
    async with elected(database_pool, "x") as again:
        assert again is not None
