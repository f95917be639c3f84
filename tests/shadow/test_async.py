"""Async: no client notices the shadow's faults; the messages that it misses are recorded."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import pytest

from tests.shadow.log_pair import LogPair
from tests.shadow.proxy_faults import FAULTS
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.conformance.envelopes import messages
from transport.contract import Appended
from transport.message.envelope import HEADER_MIRROR_OF


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_bad_shadow_changes_neither_outcome_nor_time_and_what_it_misses_is_known(
    pair: LogPair, fault: Callable[[FaultProxy], None]
) -> None:
    limits = {
        "transport_shadow_queue_records": 20,
        "transport_shadow_timeout_ms": 1500,
        "transport_shadow_flush_ms": 0,
    }
    offsets: set[str] = set()
    async with pair.process("async", **limits) as process:
        fault(pair.shadow_proxy)
        took = []
        for i in range(20):
            sent = messages([f"{i}.{n}" for n in range(10)], partition=i % 4, of=process.transport)
            began = time.monotonic()
            outcomes = await process.transport.publish(sent)
            took.append(time.monotonic() - began)
            assert all(isinstance(outcome, Appended) for outcome in outcomes)
            offsets |= {
                f"{i % 4}/{outcome.offset}" for outcome in outcomes if isinstance(outcome, Appended)
            }
            await asyncio.sleep(0.01)  # the sender has its turn
        # A call to the shadow takes the whole of its time while it is like this.
        assert statistics.median(took) < limits["transport_shadow_timeout_ms"] / 1000
        assert process.mirror.status().waiting <= 4 * 20
    pair.shadow_proxy.heal()
    counts = process.watch.counts
    dropped = sum(n for outcome, n in counts.items() if outcome.startswith("dropped_"))
    assert dropped + counts["appended"] + counts["remembered"] == 200
    assert counts["dropped_queue_full"] + counts["dropped_breaker_open"] >= 100, "it was hurt"
    # The ledger names each of them, and nothing is missing that it does not name.
    noted = [f"{partition}/{offset}" for partition, _, offset in process.watch.gaps]
    assert len(noted) == len(set(noted)) == dropped

    async def explained() -> bool:
        there = {
            f"{stand.partition}/{stand.headers[HEADER_MIRROR_OF].decode().split(':', 1)[1]}"
            for stand in await pair.stands(pair.shadow)
        }
        return offsets - there <= set(noted)

    await eventually(explained)
    status = process.mirror.status()
    assert status.dropped == dropped
    assert status.dropped_since(0.0)


async def test_a_shadow_that_comes_back_gets_what_waited_in_order(pair: LogPair) -> None:
    async with pair.process("async", transport_shadow_timeout_ms=500) as process:
        FAULTS["refusing"](pair.shadow_proxy)
        texts = [str(i) for i in range(60)]
        for text in texts:
            await process.transport.publish(messages([text], partition=1, of=process.transport))
        await eventually(lambda: "open" in process.watch.states)
        await eventually(lambda: process.mirror.status().waiting == 60)
        pair.shadow_proxy.heal()
        await eventually(lambda: not process.mirror.status().waiting)
        assert process.mirror.status().breaker == "closed"
        assert not process.watch.gaps
    bodies = [stand.body for stand in await pair.stands(pair.primary)]
    first = list(dict.fromkeys(stand.body for stand in await pair.stands(pair.shadow)))
    assert first == bodies


async def test_stopping_sends_what_still_waits(pair: LogPair) -> None:
    async with pair.process("async") as process:
        sent = messages([str(i) for i in range(300)], partition=2, of=process.transport)
        await process.transport.publish(sent)
        await asyncio.sleep(0)  # the turn of the loop in which they are queued
        assert process.mirror.status().waiting == 300
    assert len(await pair.stands(pair.shadow)) == 300


async def test_what_the_primary_did_not_answer_for_is_noted(pair: LogPair) -> None:
    async with pair.process("async") as process:
        await process.transport.publish(messages(["warm"], partition=0, of=process.transport))
        pair.primary_proxy.black_hole()
        (outcome,) = await process.transport.publish(
            messages(["?"], partition=0, of=process.transport)
        )
        assert not isinstance(outcome, Appended)
        pair.primary_proxy.heal()
        pair.primary_proxy.reset()
    assert process.watch.gaps == [(0, "primary_unknown", None)]
