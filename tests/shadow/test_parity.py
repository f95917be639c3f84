"""Parity of what the shadow really wrote: what is allowed is no difference, and what isn't is."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import msgspec
import pytest

from migration_guide.parity import order
from migration_guide.parity.check import ParityCheck, check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult, Verdict
from tests.shadow.log_pair import LogPair, Shadowed
from tests.support.eventually import eventually
from transport.conformance.envelopes import contents, message
from transport.contract import Envelope, Record, Topic
from transport.errors import TransportError
from transport.message.envelope import Message, decode, seal_message
from transport.registry import create

# Kafka as the primary remembers no keys: a retry is a new record, which stands behind in both.
from_redis = pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)
from_kafka = pytest.mark.parametrize("pair", ["kafka-to-redis"], indirect=True)


async def compared(pair: LogPair, mirrored: float | None) -> ParityCheck:
    async with (
        create(pair.primary, pair.settings) as one,
        create(pair.shadow, pair.settings) as two,
    ):
        return await check(one, two, mirrored=mirrored, limits=ParityLimits(settle=0.0))


async def accepted(process: Shadowed, sent: Envelope) -> bool:
    (outcome,) = await process.transport.publish([sent])
    return not isinstance(outcome, TransportError)


async def firsts(pair: LogPair, name: str) -> list[str]:
    return list(dict.fromkeys(contents(await pair.stands(name))))


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let half a second be longer than a request waits, and an outage of one second a long one."""
    monkeypatch.setattr(order, "SAME_REQUEST", 0.5)


@from_redis
@pytest.mark.usefixtures("long_ago")
async def test_what_an_outage_exchanged_overlapped_however_long_it_was(pair: LogPair) -> None:
    """Neither was acknowledged before the shadow was back, and its repair turned them round."""
    async with AsyncExitStack() as stack, pair.process("sync") as two:
        one = await stack.enter_async_context(pair.process("sync", transport_shadow_flush_ms=0))
        mirrored = time.time()
        assert await accepted(one, message("warm", partition=0, of=one.transport))
        pair.shadow_proxy.refuse()
        pair.shadow_proxy.reset()
        first = message("first", partition=0, of=one.transport)
        second = message("second", partition=0, of=one.transport)
        began = time.monotonic()
        assert not await accepted(one, first)
        assert not await accepted(two, second)
        await eventually(lambda: time.monotonic() > began + 1.0)
        assert not await accepted(one, first), "its client tries on, in vain"
        await stack.aclose()  # a rolling restart; else it depends on who repairs sooner
        pair.shadow_proxy.heal()
        await eventually(lambda: accepted(two, second))
        await eventually(lambda: accepted(two, first))
    assert await firsts(pair, pair.primary) == ["warm", "first", "second"]
    assert await firsts(pair, pair.shadow) == ["warm", "second", "first"]
    known = await compared(pair, mirrored)
    assert known.totals.of(ParityResult.ORDER_OVERLAPPED) == 1
    assert known.totals.verdict is Verdict.EQUAL
    # While it is unknown whether the phase was reached, an overlap is not shown.
    assert (await compared(pair, None)).totals.of(ParityResult.ORDER_DIFFERS) == 1


@from_redis
@pytest.mark.usefixtures("long_ago")
async def test_what_was_acknowledged_first_and_stands_second_differs(pair: LogPair) -> None:
    """By a process that is not in sync mode yet: its copy was lost, and came with a retry."""
    async with pair.process("async", transport_shadow_flush_ms=0) as behind:
        pair.shadow_proxy.refuse()
        pair.shadow_proxy.reset()
        first = message("first", partition=0, of=behind.transport)
        assert await accepted(behind, first)
    acknowledged = time.monotonic()
    await eventually(lambda: time.monotonic() > acknowledged + 1.0)
    pair.shadow_proxy.heal()
    async with pair.process("sync") as process:
        mirrored = time.time()
        second = message("second", partition=0, of=process.transport)
        await eventually(lambda: accepted(process, second))
        await eventually(lambda: accepted(process, first))
    assert await firsts(pair, pair.primary) == ["first", "second"]
    assert await firsts(pair, pair.shadow) == ["second", "first"]
    report = await compared(pair, mirrored)
    assert report.totals.of(ParityResult.ORDER_DIFFERS) == 1
    assert report.totals.verdict is Verdict.DIFFERS


@from_kafka
async def test_two_bodies_under_one_key_are_a_conflict_and_not_missing(pair: LogPair) -> None:
    """Phase 4: two processes accept them at once, and Redis remembers the key of the first."""
    async with pair.process("sync") as one, pair.process("sync") as two:
        sent = message("one", partition=0, of=one.transport)
        event = decode(Record(Topic.MESSAGES, 0, "0", sent.key, sent.body, {}, 0.0))
        assert isinstance(event, Message)
        other = seal_message(
            msgspec.structs.replace(event, content="two"),
            partitions=one.transport.partitions,
            traceparent=None,
        )
        assert await accepted(one, sent)
        assert await accepted(two, other)
        assert two.watch.counts["conflict"] == 1
    report = await compared(pair, None)
    assert report.totals.counts == {ParityResult.MATCHED: 1, ParityResult.CONFLICT: 1}
    assert report.totals.verdict is Verdict.EQUAL
