"""A message is sent again, long after its first record: Kafka appends it once more, Redis does not.

So the log that remembers its appends lacks nothing where the other one has one record more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import pytest
from redis.asyncio import Redis

from migration_guide.parity import beginning
from migration_guide.parity.check import check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult
from tests.parity.mirroring import every, message
from transport.clock import now
from transport.contract import WORKER_GROUP, Appended, Envelope, Outcome, Remembered, Topic
from transport.kafka import KafkaTransport
from transport.message.envelope import Message, Receipt, seal_message, seal_receipt
from transport.redis import RedisTransport
from transport.shadow.copies import mirrored
from transport.shadow.homes import home_of
from transport.shadow.origin import Origin

COUNT = 30
AT_ONCE = ParityLimits(settle=0.0)
MESSAGES = [message(number) for number in range(COUNT)]
LATER = [message(number) for number in range(COUNT, 2 * COUNT)]
OTHERS = [msgspec.structs.replace(one, content="another") for one in MESSAGES]
RECEIPTS = [Receipt(one.message_id, "r", "read", now(), "c") for one in MESSAGES]


@pytest.fixture(autouse=True)
def _exact_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin at ``since``, and not earlier for the sake of other clocks."""
    monkeypatch.setattr(beginning, "_CLOCKS", 0.0)


async def append(
    kafka_log: KafkaTransport, redis_log: RedisTransport, what: Sequence[Message | Receipt]
) -> Sequence[Outcome]:
    """Append to Kafka, the primary, and then to Redis; return the outcomes of Redis."""
    partitions = kafka_log.partitions
    envelopes: list[Envelope] = [
        seal_receipt(one, partitions=partitions, traceparent=None)
        if isinstance(one, Receipt)
        else seal_message(one, partitions=partitions, traceparent=None)
        for one in what
    ]
    copies = []
    for envelope, outcome in zip(envelopes, await kafka_log.publish(envelopes), strict=True):
        assert isinstance(outcome, Appended)
        origin = Origin("kafka", envelope.partition, outcome.offset)
        home = home_of(envelope, partitions, redis_log.partitions)
        copies.append(mirrored(envelope, origin, "sync", home=home))
    return await redis_log.publish(copies)


async def a_moment() -> float:
    """Return a time after all records so far, in milliseconds (Kafka's), and let it pass."""
    since = (time.time_ns() // 1_000_000 + 1) / 1000
    await asyncio.sleep(since + 0.001 - time.time())
    return since


@pytest.mark.parametrize(
    ("first", "again", "expected"),
    [
        (MESSAGES, MESSAGES, ParityResult.DUPLICATE),
        (RECEIPTS, RECEIPTS, ParityResult.DUPLICATE),
        (MESSAGES, OTHERS, ParityResult.CONFLICT),
    ],
    ids=["message", "receipt", "another body"],
)
@pytest.mark.parametrize("is_trimmed", [False, True], ids=["held", "trimmed"])
async def test_nothing_is_missing_where_the_message_came_before_the_window(
    kafka_log: KafkaTransport,
    redis_log: RedisTransport,
    redis_client: Redis,
    first: Sequence[Message | Receipt],
    again: Sequence[Message | Receipt],
    expected: ParityResult,
    is_trimmed: bool,
) -> None:
    await append(kafka_log, redis_log, first)
    settled = {record.partition: record.offset for record in await every(redis_log)}
    await redis_log.publish_positions(Topic.MESSAGES, settled, group=WORKER_GROUP)
    since = await a_moment()
    await append(kafka_log, redis_log, LATER)
    assert all(isinstance(it, Remembered) for it in await append(kafka_log, redis_log, again))
    if is_trimmed:
        for partition, offset in settled.items():
            await redis_client.xtrim(f"msg:stream:{partition}", minid=offset, approximate=False)
            assert await redis_client.xdel(f"msg:stream:{partition}", offset) == 1
        assert len(await every(redis_log)) == COUNT
    report = await check(kafka_log, redis_log, since=since, limits=AT_ONCE)
    assert report.totals.counts == {expected: COUNT, ParityResult.MATCHED: COUNT}


async def test_a_record_that_another_program_deleted_is_missing(
    kafka_log: KafkaTransport, redis_log: RedisTransport, redis_client: Redis
) -> None:
    """Redis remembers its append, and that is no record."""
    await append(kafka_log, redis_log, MESSAGES)
    since = await a_moment()
    await append(kafka_log, redis_log, MESSAGES)
    first = (await every(redis_log))[0]
    lost = [one for one in await every(redis_log) if one.partition == first.partition][1]
    assert await redis_client.xdel(f"msg:stream:{lost.partition}", lost.offset) == 1
    report = await check(kafka_log, redis_log, since=since, limits=AT_ONCE)
    assert report.totals.counts == {
        ParityResult.DUPLICATE: COUNT - 1,
        ParityResult.MISSING_IN_SHADOW: 1,
    }
