"""Dead letters that a failover lost are appended again by the process that still has them."""

from __future__ import annotations

import asyncio

import pytest

from compose.local.valkey import ValkeyServer
from tests.support.appends import append
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_failover import Failover, log_of, run
from tests.transport.redis_shards import PARTITIONS, opened
from transport.clock import now
from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, DeadLetter, Reason, Record, Topic, Transport
from transport.errors import TransportError
from transport.redis.keys import dead_letter_log


def _letter(record: Record) -> DeadLetter:
    return DeadLetter(
        record=record, reason=Reason.REJECTED, error="bad", attempts=3, failed_at=now()
    )


async def _has_letters(log: Transport, *texts: str) -> None:
    async def are_there() -> bool:
        try:
            return contents(await log.read(Topic.DEAD_LETTERS, 0)) == list(texts)
        except TransportError:
            return False

    await eventually(are_there)


async def test_a_letter_outlives_the_server_that_was_told_it_alone(failover: Failover) -> None:
    """Its record is settled, in PostgreSQL and on the promoted replica."""
    async with log_of(failover) as log:
        await append(log, messages(["bad"], partition=0, of=log))
        (record,) = await log.read(Topic.MESSAGES, 0)
        await failover.cut()
        await log.dead_letter([_letter(record)])
        await failover.promote()

        async def is_settled() -> bool:
            try:
                await log.publish_positions(Topic.MESSAGES, {0: record.offset}, group=WORKER_GROUP)
            except TransportError:
                return False
            return True

        await eventually(is_settled)
        await _has_letters(log, "bad")


async def test_letters_that_are_there_are_not_doubled(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    async with log_of(failover) as log:
        await append(log, messages(["one", "two"], partition=0, of=log))
        one, two = await log.read(Topic.MESSAGES, 0)
        await log.dead_letter([_letter(one)])
        await failover.cut()
        await log.dead_letter([_letter(two)])
        await failover.promote()
        await _has_letters(log, "one", "two")
        await eventually(lambda: "lost 1 dead letters" in caplog.text)


async def test_a_letter_whose_second_append_got_no_reply_is_told_as_lost(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    async with log_of(failover) as log:
        await append(log, messages(["bad"], partition=0, of=log))
        (record,) = await log.read(Topic.MESSAGES, 0)
        await failover.cut()
        await log.dead_letter([_letter(record)])
        failover.proxy.lose_reply_to(b"_set_aside")
        await failover.promote()
        await _has_letters(log, "bad")
        await eventually(lambda: "lost 1 dead letters" in caplog.text)
        assert failover.proxy.lost_replies == 1


async def test_letters_that_are_there_are_not_doubled_after_a_long_outage(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis was away for longer than it remembers letters."""
    async with log_of(failover, idempotency_ttl_seconds=1) as log:
        await append(log, messages(["one", "two"], partition=0, of=log))
        one, two = await log.read(Topic.MESSAGES, 0)
        await log.dead_letter([_letter(one)])

        async def is_forgotten() -> bool:
            return await run(failover.primary, "EXISTS", *dead_letter_log().memories()) == 0

        await eventually(is_forgotten)
        await failover.cut()
        await log.dead_letter([_letter(two)])
        await failover.promote()
        await _has_letters(log, "one", "two")
    assert "lost 1 dead letters" in caplog.text


async def test_a_letter_over_an_old_connection_outlives_the_failover(failover: Failover) -> None:
    """The address has moved; older connections still lead to the former primary, which lives on."""
    async with log_of(failover) as log:
        await append(log, messages(["one", "two", "three"], partition=0, of=log))
        letters = [_letter(record) for record in await log.read(Topic.MESSAGES, 0)]
        await asyncio.gather(log.ping(), log.ping())  # two connections
        await failover.cut()
        failover.proxy.lead_to(failover.replica.host, failover.replica.port)
        await asyncio.gather(*(log.ping() for _ in letters), return_exceptions=True)
        await asyncio.gather(*(log.dead_letter([letter]) for letter in letters))

        async def are_there() -> bool:
            return await run(failover.replica, "XLEN", "msg:dlq") == len(letters)

        await eventually(are_there)


async def test_letters_are_appended_again_before_the_new_server_has_a_replica(
    failover: Failover, third: ValkeyServer
) -> None:
    primary = failover.primary
    await run(third, "REPLICAOF", primary.host, str(primary.port))
    async with log_of(failover, redis_wait_replicas=1, redis_timeout_ms=2000) as log:
        await failover.in_step()
        await append(log, messages(["one", "two"], partition=0, of=log))
        letters = [_letter(record) for record in await log.read(Topic.MESSAGES, 0)]
        await failover.cut()
        for letter in letters:
            await log.dead_letter([letter])  # which the third server confirms
        await failover.promote()
        await _has_letters(log, "one", "two")


async def test_letters_outlive_the_failover_of_their_shard(shards: RedisCluster) -> None:
    async with opened(shards, redis_timeout_ms=20_000, redis_rescue_seconds=60) as log:
        await append(log, messages(["bad"], partition=PARTITIONS - 1, of=log))
        (record,) = await log.read(Topic.MESSAGES, PARTITIONS - 1)
        victim = await shards.cut("msg:dlq")
        await log.dead_letter([_letter(record)])
        await victim.kill()
        await _has_letters(log, "bad")
