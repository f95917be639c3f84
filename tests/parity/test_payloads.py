"""Messages whose content is in the payload store, compared and copied: their records are enough."""

from __future__ import annotations

import msgspec
import pytest
from redis.asyncio import Redis

from migration_guide.backfill.request import Request
from migration_guide.backfill.run import Backfill
from migration_guide.parity.check import ParityCheck, check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult
from persistence.database.pool import Pool
from persistence.store.batch import PositionedEvent
from persistence.store.writer import Writer
from tests.parity.mirroring import every, message, send
from transport.contract import Transport
from transport.message.envelope import Message, decode
from transport.message.payload import ContentDigest

AT_ONCE = ParityLimits(settle=0.0, samples=100, tolerance=3600.0)


def text(number: int) -> str:
    return f"text {number} " * 400


def large(number: int, *, content: str | None = None) -> Message:
    """A message of version 2; each third one is of version 1."""
    whole = message(number)
    if number % 3 == 0:
        return whole
    digest = ContentDigest()
    digest.add((content or text(number)).encode())
    payload = digest.payload(whole.message_id, whole.content_type, whole.recipient_ids)
    return whole.with_payload(payload)


def request(*, from_rows: bool = False) -> Request:
    return Request(rate=0, by="test", limits=AT_ONCE, from_rows=from_rows)


def copied(number: int) -> bool:
    """Return whether it is copied; what came before the first copies is not missing."""
    return number < 8 or number % 4 > 0


async def counts(one: Transport, two: Transport) -> dict[ParityResult, int]:
    report: ParityCheck = await check(one, two, limits=AT_ONCE)
    return {result: n for result, n in report.totals.counts.items() if n}


async def bodies(log: Transport) -> dict[bytes, bytes]:
    return {record.headers["messageId"]: record.body for record in await every(log)}


async def test_a_backfill_copies_records_with_keys_as_they_stand(
    redis_log: Transport, kafka_log: Transport, database_pool: Pool
) -> None:
    await send(redis_log, kafka_log, range(40), copied=copied, make=large)
    assert sum(b'"payloadKey":"' in body for body in (await bodies(redis_log)).values()) == 26
    assert await counts(redis_log, kafka_log) == {
        ParityResult.MATCHED: 32,
        ParityResult.MISSING_IN_SHADOW: 8,
    }
    status = await Backfill(database_pool, redis_log, kafka_log, request()).run()
    assert (status.stage, status.appended) == ("done", 8)
    assert await bodies(kafka_log) == await bodies(redis_log)


async def test_a_copy_that_names_other_content_differs(
    redis_log: Transport, kafka_log: Transport
) -> None:
    made = large(1)
    other = msgspec.structs.replace(large(1, content="other " * 900), accepted_at=made.accepted_at)
    await send(redis_log, kafka_log, [2, 4], make=large)
    await send(redis_log, kafka_log, [1], copied=lambda _: False, make=lambda _: made)
    await send(kafka_log, redis_log, [1], copied=lambda _: False, make=lambda _: other)
    found = await counts(redis_log, kafka_log)
    assert found.pop(ParityResult.MATCHED) == 2
    assert found, "another key was taken for the same message"


@pytest.mark.parametrize("in_row", [True, False], ids=["content in the row", "key alone"])
async def test_a_backfill_from_rows_makes_records_with_keys_again(
    redis_log: Transport,
    kafka_log: Transport,
    redis_client: Redis,
    database_pool: Pool,
    in_row: bool,
) -> None:
    made = {number: large(number) for number in range(20)}
    await send(redis_log, kafka_log, range(20), copied=copied, make=made.__getitem__)
    before = await bodies(redis_log)
    writer = Writer(database_pool)
    contents = {made[number].message_id: text(number) for number in made if made[number].payload}
    for record in await every(redis_log):
        event = decode(record)
        if in_row and (content := contents.get(event.message_id)):
            event = msgspec.structs.replace(event, content=content)
        placed = PositionedEvent(event, "redis", record.partition, record.offset, None)
        await writer.write([placed], None)
    for partition in range(redis_log.partitions):
        await redis_client.xtrim(f"msg:stream:{partition}", maxlen=0)
    rows = request(from_rows=True)
    status = await Backfill(database_pool, redis_log, kafka_log, rows).run()
    assert status.appended == 3
    assert await bodies(kafka_log) == before
