"""Sync: acknowledged means in both logs; whatever fails half way, a retry makes whole."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.shadow.log_pair import LogPair, Shadowed
from tests.support.eventually import eventually
from transport.clock import now
from transport.conformance.envelopes import message
from transport.contract import Appended, Envelope, Outcome, Record, Remembered
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.message.envelope import HEADER_MESSAGE_ID, Message, decode, seal_message


def _again(sent: Envelope, of: Shadowed) -> Envelope:
    """Return the envelope of a retry: the same key and body, accepted later."""
    event = decode(Record("messages", 0, "0", sent.key, sent.body, {}, 0.0))  # type: ignore[arg-type]
    assert isinstance(event, Message)
    later = type(event)(
        **{
            **{name: getattr(event, name) for name in event.__struct_fields__},
            "accepted_at": now(),
            "correlation_id": "another",
        }
    )
    return seal_message(later, partitions=of.transport.partitions, traceparent=None)


async def _retried(process: Shadowed, sent: Envelope) -> Outcome:
    async def accepted() -> Outcome | None:
        (outcome,) = await process.transport.publish([_again(sent, process)])
        return None if isinstance(outcome, TransportError) else outcome

    return await eventually(accepted)


async def _both_have_it_once(pair: LogPair, sent: Envelope) -> None:
    """Once as workers count: by id. The copy that stands first is of a record of the primary."""
    originals, copies = await pair.stands(pair.primary), await pair.stands(pair.shadow)
    for records in (originals, copies):
        assert {record.headers[HEADER_MESSAGE_ID].decode() for record in records} == {
            sent.message_id
        }
    assert copies[0].body in [original.body for original in originals]
    if pair.primary == "redis":  # which remembers
        assert [original.body for original in originals] == [copies[0].body]


@pytest.mark.parametrize("fault", ["refusing", "black hole", "lost reply"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "another-process"])
async def test_a_failure_of_the_shadow_is_an_error_and_a_retry_repairs_both(
    pair: LogPair, fault: str, elsewhere: bool
) -> None:
    limit = {"transport_shadow_timeout_ms": 1000, "transport_shadow_flush_ms": 0}
    async with AsyncExitStack() as first, pair.process("sync") as other:
        process = await first.enter_async_context(pair.process("sync", **limit))
        await process.transport.publish([warm := message("warm", partition=1, of=other.transport)])
        sent = message("kept", partition=0, of=process.transport)
        if fault == "lost reply":
            pair.shadow_proxy.lose_reply_to(b"kept", times=1 if pair.shadow == "redis" else 20)
        elif fault == "refusing":
            pair.shadow_proxy.refuse()
            pair.shadow_proxy.reset()
        else:
            pair.shadow_proxy.black_hole()
        (outcome,) = await process.transport.publish([sent])
        assert isinstance(outcome, AppendUnknown)
        assert pair.shadow in str(outcome)
        assert len(await pair.stands(pair.primary)) == 2
        if elsewhere:
            await first.aclose()  # and no process is left to repair it
        pair.shadow_proxy.heal()
        pair.shadow_proxy.reset()
        retried = await _retried(other if elsewhere else process, sent)
        if pair.primary == "redis":
            assert isinstance(retried, Remembered)
            assert retried.accepted_at == sent.accepted_at
        copies = await pair.stands(pair.shadow)
        assert copies, "acknowledged, so it is there now"
    stands = [
        [stand for stand in await pair.stands(name) if stand.body != warm.body]
        for name in (pair.primary, pair.shadow)
    ]
    for records in stands:
        assert {record.headers[HEADER_MESSAGE_ID].decode() for record in records} == {
            sent.message_id
        }
    assert stands[1][0].body in [record.body for record in stands[0]]
    if pair.primary == "redis":
        assert [record.body for record in stands[0]] == [sent.body]


@pytest.mark.parametrize("fault", ["black hole", "lost reply"])
async def test_a_failure_of_the_primary_is_an_error_and_a_retry_repairs_both(
    pair: LogPair, fault: str
) -> None:
    async with pair.process("sync") as process:
        sent = message("kept", partition=0, of=process.transport)
        if fault == "lost reply":
            pair.primary_proxy.lose_reply_to(b"kept", times=1 if pair.primary == "redis" else 20)
        else:
            pair.primary_proxy.black_hole()
        (outcome,) = await process.transport.publish([sent])
        assert isinstance(outcome, (AppendUnknown, TransportUnavailable))
        assert not await pair.stands(pair.shadow)
        pair.primary_proxy.heal()
        pair.primary_proxy.reset()
        await _retried(process, sent)
        await _both_have_it_once(pair, sent)


async def test_a_copy_that_failed_is_repaired_without_a_retry(pair: LogPair) -> None:
    async with pair.process("sync", transport_shadow_timeout_ms=500) as process:
        pair.shadow_proxy.refuse()
        pair.shadow_proxy.reset()
        sent = message("kept", partition=0, of=process.transport)
        (outcome,) = await process.transport.publish([sent])
        assert isinstance(outcome, AppendUnknown)
        assert process.mirror.status().waiting == 1
        pair.shadow_proxy.heal()
        await eventually(lambda: not process.mirror.status().waiting)
        await _both_have_it_once(pair, sent)
    assert not process.watch.gaps


async def test_while_the_breaker_is_open_an_error_comes_at_once(pair: LogPair) -> None:
    async with pair.process("sync", transport_shadow_timeout_ms=1000) as process:
        pair.shadow_proxy.black_hole()
        for i in range(10):
            await process.transport.publish([message(f"{i}", partition=0, of=process.transport)])
            if "open" in process.watch.states:
                break
        took = []
        for _ in range(3):
            sent = message("now", partition=0, of=process.transport)
            began = time.monotonic()
            (outcome,) = await process.transport.publish([sent])
            took.append(time.monotonic() - began)
            assert isinstance(outcome, AppendUnknown)
        assert min(took) < 1.0, "each waited for the shadow"
        pair.shadow_proxy.heal()
        pair.shadow_proxy.reset()
        assert await _retried(process, sent)


async def test_a_cancelled_publish_leaves_its_copies_to_the_repair(pair: LogPair) -> None:
    async with pair.process("sync", transport_shadow_timeout_ms=500) as process:
        pair.shadow_proxy.hold(b"kept")
        sent = message("kept", partition=0, of=process.transport)
        task = asyncio.ensure_future(process.transport.publish([sent]))
        # Its place in the primary would not do: the answer of that append may still be under way.
        await pair.shadow_proxy.held.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        pair.shadow_proxy.heal()
        pair.shadow_proxy.reset()
        await eventually(lambda: not process.mirror.status().waiting)
        await _both_have_it_once(pair, sent)


@pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)  # which remembers
async def test_a_publish_cancelled_beside_a_repeat_leaves_its_copies_to_the_repair(
    pair: LogPair,
) -> None:
    """The bytes of the repeat's first append are read before any copy is sent."""
    async with pair.process("sync", redis_timeout_ms=20_000) as process:
        first = message("first", partition=0, of=process.transport)
        (outcome,) = await process.transport.publish([first])
        assert isinstance(outcome, Appended)
        news = [message(text, partition=0, of=process.transport) for text in ("one", "two")]
        repeat = _again(first, process)
        before = process.transport.offset_before(outcome.offset)
        assert before is not None
        pair.primary_proxy.hold(before.encode())  # the read of the first, and nothing else
        task = asyncio.ensure_future(process.transport.publish([news[0], repeat, news[1]]))
        await pair.primary_proxy.held.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        pair.primary_proxy.heal()
        await eventually(lambda: not process.mirror.status().waiting)
        names = [record.headers[HEADER_MESSAGE_ID] for record in await pair.stands(pair.shadow)]
        assert names == [sent.message_id.encode() for sent in (first, *news)]
