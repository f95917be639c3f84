"""A lost reply neither doubles an append nor skips a delivery.

With redis-py's own retries both would happen without an exception.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.transport.settler import Settler
from transport.clock import now
from transport.conformance.envelopes import contents, message, messages
from transport.contract import (
    WORKER_GROUP,
    Appended,
    DeadLetter,
    Reason,
    Record,
    Remembered,
    Topic,
)
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.append.calls import RECORDS_PER_CALL

PATIENCE = 10.0


async def test_an_append_without_a_reply_is_unknown_and_stands_once(
    far: RedisTransport, proxy: FaultProxy, client: Redis
) -> None:
    sent = messages(["a", "b"], partition=0, of=far)
    proxy.lose_reply_to(b"_append")
    outcomes = await far.publish(sent)
    assert [type(outcome) for outcome in outcomes] == [AppendUnknown, AppendUnknown]
    assert await client.xlen("msg:stream:0") == 2
    again = await far.publish(sent)
    assert [type(outcome) for outcome in again] == [Remembered, Remembered]
    assert await client.xlen("msg:stream:0") == 2


async def test_what_follows_a_call_without_a_reply_is_not_sent(
    far: RedisTransport, proxy: FaultProxy, client: Redis
) -> None:
    """More records than one call takes: those of the second call must not overtake the first's."""
    sent = messages(map(str, range(RECORDS_PER_CALL + 1)), partition=0, of=far)
    # Registers the writer, which an append does once a second, and whose reply comes first.
    await far.publish([message("first", partition=1, of=far)])
    proxy.lose_reply_to(b"_append")
    *first, last = await far.publish(sent)
    assert {type(outcome) for outcome in first} == {AppendUnknown}
    assert type(last) is TransportUnavailable
    assert await client.xlen("msg:stream:0") == RECORDS_PER_CALL
    *first, last = await far.publish(sent)
    assert {type(outcome) for outcome in first} == {Remembered}
    assert type(last) is Appended


async def test_a_partition_that_refuses_spoils_no_other_ones_outcome(
    far: RedisTransport, client: Redis
) -> None:
    await client.set("msg:stream:2", "not a stream")
    outcomes = await far.publish([message("x", partition=p, of=far) for p in (0, 1, 2, 3)])
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, True, False, True]
    assert isinstance(outcomes[2], TransportUnavailable)
    await client.delete("msg:stream:2")


async def test_records_whose_reply_was_lost_come_next(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    texts = [str(i) for i in range(40)]
    await far.publish(messages(texts, partition=0, of=far))
    seen: list[Record] = []
    for turn in range(20):
        if turn % 2:
            proxy.lose_reply_to(b"_range")
        after = seen[-1].offset if seen else None
        with contextlib.suppress(TransportUnavailable):
            seen += await far.read(Topic.MESSAGES, 0, after=after, limit=4, wait=PATIENCE)
    assert proxy.lost_replies > 5
    assert contents(seen) == texts


async def test_a_position_that_is_published_without_a_reply_can_be_repeated(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    await far.publish(messages(list("abc"), partition=0, of=far))
    at = {0: (await far.read(Topic.MESSAGES, 0))[1].offset}
    proxy.lose_reply_to(b"_show")
    with pytest.raises(TransportUnavailable):
        await far.publish_positions(Topic.MESSAGES, at, group=WORKER_GROUP)
    await far.publish_positions(Topic.MESSAGES, at, group=WORKER_GROUP)
    (progress, *_) = await far.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert (progress.floor, progress.lag, progress.lost) == (at[0], 1, 0)


async def test_a_dead_letter_sent_twice_stands_once(far: RedisTransport, proxy: FaultProxy) -> None:
    await far.publish([message("dies", partition=0, of=far)])
    (record,) = await far.read(Topic.MESSAGES, 0)
    letter = DeadLetter(record, Reason.REJECTED, "why", attempts=3, failed_at=now())
    proxy.lose_reply_to(b"_set_aside")
    with pytest.raises(TransportUnavailable):
        await far.dead_letter([letter])
    await far.dead_letter([letter])
    assert len(await far.read(Topic.DEAD_LETTERS, 0)) == 1


async def test_everything_goes_on_after_every_connection_was_reset(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    worker = Settler(far)
    async with worker.working():
        for i in range(5):
            await asyncio.sleep(0.02)
            proxy.reset()

            async def sent(text: str = str(i)) -> bool:
                (outcome,) = await far.publish([message(text, partition=0, of=far)])
                return not isinstance(outcome, TransportError)

            await eventually(sent)
        await eventually(lambda: len(worker.records) >= 5)
    assert contents(worker.records) == list("01234")


async def test_a_black_hole_costs_its_timeout(far: RedisTransport, proxy: FaultProxy) -> None:
    await far.publish([message("before", partition=0, of=far)])
    proxy.black_hole()
    began = asyncio.get_running_loop().time()
    (outcome,) = await far.publish([message("into the hole", partition=0, of=far)])
    assert isinstance(outcome, AppendUnknown)
    assert asyncio.get_running_loop().time() - began > 1.5, "REDIS_TIMEOUT_MS is 2000"
    proxy.heal()
    (outcome,) = await far.publish([message("after", partition=0, of=far)])
    assert isinstance(outcome, Appended)
