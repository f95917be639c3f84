"""Redis with four partitions beside Kafka with eight, or six, or two: compared, and repaired."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import pytest_asyncio

from migration_guide.backfill.run import Backfill
from migration_guide.parity.check import check
from migration_guide.parity.follower import Follower
from migration_guide.parity.result import ParityResult, Verdict
from tests.parity.mirroring import every, message, send
from tests.parity.still_log import EPOCH, StillLog
from tests.parity.test_backfill import AT_ONCE, counts, persist, request
from transport.contract import Appended, Envelope
from transport.kafka import KafkaTransport
from transport.message.envelope import HEADER_MIRROR_PARTITION, Receipt, seal_receipt
from transport.message.partitioner import partition_for
from transport.shadow.homes import home_of
from transport.shadow.origin import origin_of


@pytest_asyncio.fixture(params=[8, 6, 2])
async def kafka_log(request, both_settings):
    settings = both_settings.model_copy(update={"stream_partitions": request.param})
    async with KafkaTransport(settings) as log:
        yield log


def foreign(partition: int, number: int) -> Envelope:
    """Another producer's: its partitioner is its own, and its body is none of ours."""
    return Envelope(f"f{number}", partition, f"key {number}", b"foreign %d" % number, {})


@pytest.mark.parametrize("direction", ["redis-to-kafka", "kafka-to-redis"])
async def test_lost_copies_are_named_and_repaired_where_they_belong(
    direction, redis_log, kafka_log, database_pool
):
    one, two = (redis_log, kafka_log) if direction.startswith("redis") else (kafka_log, redis_log)
    strangers = [foreign(n % one.partitions, n) for n in range(12)]
    offsets = await send(one, two, range(200), copied=lambda n: n < 20 or n % 10)
    assert all(isinstance(o, Appended) for o in await one.publish(strangers))
    lost = {message(n).message_id: offsets[n] for n in range(20, 200, 10)}
    report = await check(one, two, limits=AT_ONCE)
    assert counts(report) == {ParityResult.MATCHED: 182, ParityResult.MISSING_IN_SHADOW: 18 + 12}
    named = {s.message_id: s.primary_offset for s in report.samples if s.message_id}
    assert named == lost
    assert [p.partition for p in report.partitions] == list(range(one.partitions))

    status = await Backfill(database_pool, one, two, request()).run()
    assert (status.stage, status.appended) == ("done", 18 + 12)
    report = await check(one, two, limits=AT_ONCE)
    found = counts(report)
    found.pop(ParityResult.ORDER_BACKFILLED)
    assert found == {ParityResult.MATCHED: 212}
    assert report.totals.verdict is Verdict.EQUAL

    originals = {(r.partition, r.offset): r for r in await every(one)}
    for copy in await every(two):
        origin = origin_of(copy)
        original = originals.pop((origin.partition, origin.offset))
        assert copy.body == original.body
        assert copy.partition == home_of(original, one.partitions, two.partitions)
    assert not originals
    assert (await Backfill(database_pool, one, two, request()).run()).appended == 0


async def test_a_follower_counts_by_the_primarys_partitions(redis_log, kafka_log):
    follower = Follower(redis_log, kafka_log, since=time.time() - 60, limits=AT_ONCE)
    await follower.start()
    await send(redis_log, kafka_log, range(60), copied=lambda n: n % 6)
    await follower.round()
    await send(redis_log, kafka_log, range(60, 100))
    await follower.round()
    report = follower.report()
    follower.close()
    assert len(follower.lag()) == len(report.partitions) == redis_log.partitions
    assert counts(report) == {ParityResult.MATCHED: 90, ParityResult.MISSING_IN_SHADOW: 10}


async def test_copies_in_the_primarys_partition_are_differences(redis_log, kafka_log):
    """The naive build: where a copy is not at home, nobody finds it."""
    await send(redis_log, kafka_log, range(200), place=lambda p: p % kafka_log.partitions)
    report = await check(redis_log, kafka_log, limits=AT_ONCE)
    moved = sum(
        home_of(r, redis_log.partitions, kafka_log.partitions) != r.partition % kafka_log.partitions
        for r in await every(redis_log)
    )
    expected = 0 if redis_log.partitions % kafka_log.partitions == 0 else moved
    assert counts(report).get(ParityResult.MISSING_IN_SHADOW, 0) == expected
    assert (report.totals.verdict is Verdict.EQUAL) == (expected == 0)


async def test_what_redis_trimmed_comes_back_to_its_home_from_the_rows(
    redis_log, kafka_log, redis_client, database_pool
):
    await send(redis_log, kafka_log, range(60), copied=lambda n: n < 8 or n % 4)
    before = {r.headers["messageId"]: r for r in await every(redis_log)}
    await persist(redis_log, database_pool, range(60))
    for partition in range(4):
        await redis_client.xtrim(f"msg:stream:{partition}", maxlen=0)
    status = await Backfill(database_pool, redis_log, kafka_log, request(from_rows=True)).run()
    lost = [n for n in range(8, 60) if n % 4 == 0]
    assert status.appended == len(lost)
    copies = Counter(r.headers["messageId"] for r in await every(kafka_log))
    assert set(copies.values()) == {1}
    for copy in await every(kafka_log):
        original = before[copy.headers["messageId"]]
        assert (origin_of(copy).partition, copy.body) == (original.partition, original.body)
        assert copy.partition == home_of(original, 4, kafka_log.partitions)
    receipt = Receipt(message(12).message_id, "r", "read", message(12).accepted_at, "c")
    sealed = seal_receipt(receipt, partitions=4, traceparent=None)
    assert home_of(sealed, 4, kafka_log.partitions) == next(
        r.partition for r in await every(kafka_log)
        if r.headers["messageId"].decode() == receipt.message_id
    )  # fmt: skip


async def test_a_neighbours_record_tells_where_a_log_begins():
    """Two partitions beside one: the first record of the one is of the other cell."""
    redis, kafka = StillLog("redis", 2), StillLog("kafka", 1)
    follower = Follower(redis, kafka, since=EPOCH, limits=AT_ONCE)
    await follower.start()
    first, other = (
        next(n for n in map(str, range(99)) if partition_for(n, 2) == p) for p in range(2)
    )
    redis.put(1, 1.0, conversation=first, partition=0)  # has no copy
    for number, at, name, partition in ((2, 2.0, other, 1), (3, 5.0, first, 0)):
        of = redis.put(number, at, conversation=name, partition=partition)
        more = {HEADER_MIRROR_PARTITION: str(partition)} if partition else {}
        kafka.put(
            number, at + 0.1, conversation=name, of=of, mode="sync", accepted=at, headers=more
        )
    await follower.round()
    found = counts(follower.report())
    follower.close()
    assert found == {ParityResult.MATCHED: 2, ParityResult.MISSING_IN_SHADOW: 1}
