"""A lost reply neither doubles an append nor skips a delivery.

With redis-py's own retries both would happen without an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from tests.support.fault_proxy import FaultProxy
from transport.clock import now
from transport.conformance.member import Member, contents, drain, message, messages, until
from transport.contract import (
    WORKER_GROUP,
    Appended,
    DeadLetter,
    HandingClaim,
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
    seen: list[str] = []
    async with Member(far) as member:
        claim = await member.claim(0)
        for turn in range(20):
            if turn % 2:
                proxy.lose_reply_to(b"XREADGROUP")
            with contextlib.suppress(TransportUnavailable):
                seen += contents(await claim.next(max_records=4, max_wait=0))
    assert proxy.lost_replies > 5
    assert seen == texts


async def test_a_read_that_the_server_gets_to_late_skips_nothing(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    """A cancelled read is executed after the next one: its records are pending, and come next."""
    await far.publish(messages([str(i) for i in range(9)], partition=0, of=far))
    async with Member(far) as member:
        claim = await member.claim(0)
        seen = contents(await claim.next(max_records=3, max_wait=0))
        proxy.hold(b"XREADGROUP")
        late = asyncio.ensure_future(claim.next(max_records=3, max_wait=0))
        await proxy.held.wait()
        late.cancel()
        await asyncio.wait([late])
        seen += contents(await claim.next(max_records=1, max_wait=0))
        proxy.release()

        async def executed() -> bool:
            progress = await far.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return progress[0].pending == 7

        await until(executed, patience=PATIENCE)
        seen += contents(await drain(claim, 5, patience=PATIENCE))
        assert seen == [str(i) for i in range(9)]


@pytest.mark.parametrize("how", ["cut off", "refused"])
async def test_nothing_is_handed_over_before_what_a_read_did_not_return(
    far: RedisTransport, near: RedisTransport, proxy: FaultProxy, client: Redis, how: str
) -> None:
    """A read brings records whose reply was lost, and new ones: together more than were asked.

    Or the question about their earlier deliveries is refused.
    """
    seen: list[str] = []
    most = 4 if how == "cut off" else 20
    async with Member(far) as member:
        claim = await member.claim(0)
        assert isinstance(claim, HandingClaim)

        def take(records: Sequence[Record]) -> bool:
            seen.extend(contents(records))
            claim.passed(records[-1].offset)
            return True

        async def read() -> None:
            if records := await claim.next(max_records=most, max_wait=0.1):
                seen.extend(contents(records))
                await claim.ack(records[-1].offset)

        async def is_executed() -> bool:
            progress = await far.progress(Topic.MESSAGES, group=WORKER_GROUP)
            return progress[0].pending == 3

        await far.publish([message("0", partition=0, of=far)])
        await read()
        await near.publish(messages(list("123"), partition=0, of=far))
        proxy.hold(b"XREADGROUP")
        late = asyncio.ensure_future(claim.next(max_records=most, max_wait=0))
        await proxy.held.wait()
        late.cancel()
        await asyncio.wait([late])
        proxy.release()
        await until(is_executed, patience=PATIENCE)
        await near.publish(messages(list("4567"), partition=0, of=far))
        if how == "cut off":
            await read()
            assert seen == list("01234")
        else:
            await client.execute_command("ACL", "SETUSER", "default", "-xpending")
            try:
                with pytest.raises(TransportUnavailable):
                    await read()
            finally:
                await client.execute_command("ACL", "SETUSER", "default", "+xpending")
        claim.hand_over(take)
        await far.publish([message("8", partition=0, of=far)])
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 9:
                await read()
    assert seen == list("012345678")


async def test_an_acknowledgement_without_a_reply_can_be_repeated(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    await far.publish(messages(list("abc"), partition=0, of=far))
    async with Member(far) as member:
        claim = await member.claim(0)
        records = await drain(claim, 3, patience=PATIENCE)
        proxy.lose_reply_to(b"_ack")
        with pytest.raises(TransportUnavailable):
            await claim.ack(records[1].offset)
        await claim.ack(records[1].offset)
        await claim.nack()
        assert contents(await drain(claim, 1, patience=PATIENCE)) == ["c"]


async def test_a_dead_letter_sent_twice_stands_once(far: RedisTransport, proxy: FaultProxy) -> None:
    await far.publish([message("dies", partition=0, of=far)])
    (record,) = await far.read(Topic.MESSAGES, 0)
    letter = DeadLetter(record, Reason.REJECTED, "why", attempts=3, failed_at=now())
    proxy.lose_reply_to(b"_set_aside")
    with pytest.raises(TransportUnavailable):
        await far.dead_letter([letter])
    await far.dead_letter([letter])
    assert len(await far.read(Topic.DEAD_LETTERS, 0)) == 1


async def test_a_lease_whose_reply_was_lost_is_taken_all_the_same(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    proxy.lose_reply_to(b"_take")
    async with Member(far) as member:
        await until(lambda: len(member.claims) == far.partitions, patience=PATIENCE)


async def test_everything_goes_on_after_every_connection_was_reset(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    async with Member(far) as member:
        claim = await member.claim(0)
        seen: list[str] = []
        for i in range(5):
            waiting = asyncio.ensure_future(claim.next(max_records=10, max_wait=5.0))
            await asyncio.sleep(0.02)
            proxy.reset()

            async def sent(text: str = str(i)) -> bool:
                (outcome,) = await far.publish([message(text, partition=0, of=far)])
                return not isinstance(outcome, TransportError)

            await until(sent, patience=PATIENCE)
            with contextlib.suppress(TransportUnavailable):
                seen += contents(await waiting)
        seen += contents(await drain(claim, 5 - len(seen), patience=PATIENCE))
        assert seen == list("01234")


async def test_a_black_hole_costs_its_timeout_and_no_more(
    far: RedisTransport, proxy: FaultProxy
) -> None:
    await far.publish([message("before", partition=0, of=far)])
    proxy.black_hole()
    began = asyncio.get_running_loop().time()
    (outcome,) = await far.publish([message("into the hole", partition=0, of=far)])
    assert isinstance(outcome, AppendUnknown)
    assert 1.5 < asyncio.get_running_loop().time() - began < 8.0, "REDIS_TIMEOUT_MS is 2000"
    proxy.heal()
    (outcome,) = await far.publish([message("after", partition=0, of=far)])
    assert isinstance(outcome, Appended)
