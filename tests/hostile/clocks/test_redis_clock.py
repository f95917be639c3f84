"""The clock of Redis set ahead and back by an hour, under those who use it."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings, silence
from transport.conformance.member import (
    ConformanceWorker,
    Member,
    contents,
    drain,
    message,
    messages,
    until,
)
from transport.contract import WORKER_GROUP, Appended, Remembered, Topic
from transport.redis import RedisTransport
from transport.redis.keys import messages_log

HOUR = 3600
PATIENCE = 10.0
MEMORIES = messages_log(4).memories()


async def _set(clock: SteppedClock, client: Redis, seconds: int) -> None:
    """Set the server's clock, and return once the server shows it."""
    clock.step(seconds)

    async def shown() -> bool:
        now, _ = await client.time()
        return abs(now - time.time() - seconds) < HOUR / 2

    await until(shown, patience=PATIENCE)


async def test_a_dead_owners_lease_is_no_longer_than_a_lease_when_the_clock_is_set_back(
    log: RedisTransport, clock: SteppedClock, client: Redis
) -> None:
    await _set(clock, client, HOUR)
    await log.publish(messages(list("ab"), partition=0, of=log))
    async with Member(log, "gone") as gone:
        old = await gone.claim(0)
        await drain(old, 1, patience=PATIENCE)
        await silence(gone.consumer)
        await _set(clock, client, 0)

        async def unowned() -> bool:
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return progress[0].owner is None

        # At once, but for a renewal that was under way when its consumer fell silent: a lease more.
        await until(unowned, patience=PATIENCE)
        async with Member(log, "heir", patience=PATIENCE) as heir:
            claim = await heir.claim(0)
            assert contents(await drain(claim, 2, patience=PATIENCE)) == ["a", "b"]
            assert claim.epoch > old.epoch


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_living_owner_keeps_its_partitions_when_the_clock_is_set(
    log: RedisTransport, clock: SteppedClock, step: int
) -> None:
    async with Member(log, "one") as member:
        await until(lambda: len(member.claims) == 4, patience=PATIENCE)
        before = dict(member.claims)
        clock.step(step)
        for partition in range(4):
            await log.publish([message("x", partition=partition, of=log)])

        async def renewed() -> bool:
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return all(part.owner == "one" for part in progress)

        await until(renewed, patience=PATIENCE)
        for claim in before.values():
            assert contents(await drain(claim, 1, patience=PATIENCE)) == ["x"]
        assert member.claims == before


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_nothing_is_lost_or_reordered_while_the_clock_is_set(
    log: RedisTransport, clock: SteppedClock, step: int
) -> None:
    one, two = ConformanceWorker(log, "one"), ConformanceWorker(log, "two")
    async with one.working(), two.working():
        sent = [str(n) for n in range(60)]
        for number in sent:
            await log.publish([message(number, partition=p, of=log) for p in range(4)])
            if number == "20":
                clock.step(step)
            if number == "40":
                clock.step(0)

        async def all_acknowledged() -> bool:
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return all(part.lag == 0 for part in progress)

        await until(all_acknowledged, patience=PATIENCE)
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert [(part.lost, part.oldest_age) for part in progress] == [(0, 0.0)] * 4
    for partition in range(4):
        records = [r for w in (one, two) for r in w.records if r.partition == partition]
        once = {record.offset: record for record in records}
        in_order = sorted(once.values(), key=lambda r: log.sort_key(r.offset))
        assert contents(in_order) == sent


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


async def test_what_is_acknowledged_is_trimmed_an_hour_early_and_nothing_else(
    log: RedisTransport, clock: SteppedClock, client: Redis
) -> None:
    texts = [str(n) for n in range(400)]  # more than a node of the stream: trimming is by nodes
    await log.publish(messages(texts, partition=0, of=log))
    async with Member(log) as member:
        claim = await member.claim(0)
        records = await drain(claim, 300, patience=PATIENCE)
        await claim.ack(records[-1].offset)
        clock.step(HOUR)

        async def trimmed() -> bool:
            return bool(await client.xlen("msg:stream:0") < 400)

        await until(trimmed, patience=PATIENCE)
        assert contents(await drain(claim, 100, patience=PATIENCE)) == texts[300:]
        progress = (await log.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
        assert (progress.lag, progress.lost) == (100, 0)
