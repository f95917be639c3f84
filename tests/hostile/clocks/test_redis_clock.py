"""The clock of Redis set ahead and back by an hour, under those who use it."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from tests.support.eventually import eventually
from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler, settle
from transport.conformance.envelopes import contents, message, messages
from transport.contract import WORKER_GROUP, Appended, Remembered, Topic
from transport.redis import RedisTransport
from transport.redis.keys import messages_log

HOUR = 3600
MEMORIES = messages_log(4).memories()


async def _set(clock: SteppedClock, client: Redis, seconds: int) -> None:
    """Set the server's clock, and return once the server shows it."""
    clock.step(seconds)

    async def shown() -> bool:
        now, _ = await client.time()
        return abs(now - time.time() - seconds) < HOUR / 2

    await eventually(shown)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_nothing_is_lost_or_reordered_while_the_clock_is_set(
    log: RedisTransport, clock: SteppedClock, step: int
) -> None:
    worker = Settler(log)
    async with worker.working():
        sent = [str(n) for n in range(60)]
        for number in sent:
            await log.publish([message(number, partition=p, of=log) for p in range(4)])
            if number == "20":
                clock.step(step)
            if number == "40":
                clock.step(0)

        async def all_settled() -> bool:
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return all(part.lag == 0 for part in progress)

        await eventually(all_settled)
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert [(part.lost, part.oldest_age) for part in progress] == [(0, 0.0)] * 4
    for partition in range(4):
        records = [record for record in worker.records if record.partition == partition]
        assert contents(records) == sent


async def test_what_is_remembered_is_not_kept_an_hour_longer_when_the_clock_is_set_back(
    log: RedisTransport, clock: SteppedClock, client: Redis
) -> None:
    longest = 3 * short_settings(None).idempotency_ttl_seconds * 1000
    await _set(clock, client, HOUR)
    first, second = messages(["first", "second"], partition=0, of=log)
    await log.publish([first])
    await _set(clock, client, 0)
    assert max([await client.pttl(memory) for memory in MEMORIES]) > longest, "or nothing is shown"
    outcomes = await log.publish([second, first])
    assert [type(outcome) for outcome in outcomes] == [Appended, Remembered]
    assert max([await client.pttl(memory) for memory in MEMORIES]) <= longest


async def test_what_is_settled_is_trimmed_an_hour_early_and_nothing_else(
    log: RedisTransport, clock: SteppedClock, client: Redis
) -> None:
    texts = [str(n) for n in range(400)]  # more than a node of the stream: trimming is by nodes
    await log.publish(messages(texts, partition=0, of=log))
    last = (await settle(log, 300))[-1]
    clock.step(HOUR)

    async def trimmed() -> bool:
        await log.publish_positions(Topic.MESSAGES, {0: last.offset}, group=WORKER_GROUP)
        return bool(await client.xlen("msg:stream:0") < 400)

    await eventually(trimmed)
    progress = (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
    assert (progress.lag, progress.lost) == (100, 0)
    assert contents(await settle(log, 100, after=last)) == texts[300:]
