"""A network that loses, holds back and cuts: nothing twice, nothing missing, no call that hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import fresh_settings, run_kafka_behind_a_proxy
from transport.conformance.envelopes import contents, message, messages
from transport.contract import WORKER_GROUP, Appended, Record, Topic
from transport.errors import AppendUnknown, TransportUnavailable
from transport.kafka import KafkaTransport


class _Way(NamedTuple):
    proxy: FaultProxy
    transport: KafkaTransport


@pytest_asyncio.fixture(scope="module")
async def _proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultProxy]:
    folder = tmp_path_factory.mktemp("kafka-behind-a-proxy")
    async with run_kafka_behind_a_proxy(folder) as (_, proxy):
        yield proxy


@pytest_asyncio.fixture
async def way(_proxy: FaultProxy) -> AsyncIterator[_Way]:
    async with KafkaTransport(fresh_settings(f"127.0.0.1:{_proxy.port}")) as transport:
        yield _Way(_proxy, transport)
        _proxy.heal()


async def test_a_lost_reply_to_an_append_costs_no_second_record(way: _Way) -> None:
    lost = way.proxy.lost_replies
    for i in range(5):
        way.proxy.lose_reply_to(b"marked")
        (outcome,) = await way.transport.publish(
            [message(f"marked {i}", partition=0, of=way.transport)]
        )
        assert isinstance(outcome, Appended), "sent again under the same sequence number"
    assert way.proxy.lost_replies == lost + 5
    stands = contents(await way.transport.read(Topic.MESSAGES, 0))
    assert stands == [f"marked {i}" for i in range(5)]


async def test_a_lost_reply_to_a_position_is_asked_for_again(way: _Way) -> None:
    await way.transport.publish(messages(list("abc"), partition=0, of=way.transport))
    way.proxy.lose_reply_to(b'{"topic_id":')
    await way.transport.publish_positions(Topic.MESSAGES, {0: "1"}, group=WORKER_GROUP)
    progress = (await way.transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
    assert (progress.lag, progress.floor) == (1, "1")


async def test_a_black_hole_is_answered_for_in_time_and_left_when_it_closes(way: _Way) -> None:
    await way.transport.publish([message("before", partition=0, of=way.transport)])
    way.proxy.black_hole()
    (outcome,) = await way.transport.publish([message("unknown", partition=0, of=way.transport)])
    assert isinstance(outcome, AppendUnknown | TransportUnavailable)
    with pytest.raises(TransportUnavailable):
        await way.transport.read(Topic.MESSAGES, 0)
    way.proxy.heal()

    async def appended() -> bool:
        (outcome,) = await way.transport.publish([message("after", partition=0, of=way.transport)])
        return isinstance(outcome, Appended)

    await eventually(appended)
    stands = contents(await way.transport.read(Topic.MESSAGES, 0))
    assert stands.count("unknown") <= 1
    assert stands[0] == "before"
    assert stands[-1] == "after"


async def test_connections_cut_in_the_middle_of_reading_lose_and_double_nothing(way: _Way) -> None:
    texts = [str(i) for i in range(3000)]
    async with KafkaTransport(fresh_settings(f"127.0.0.1:{way.proxy.port}")) as transport:
        seen: list[Record] = []

        async def read(most: int) -> None:
            """Read as a worker does, which asks again where the log was not reached in time."""
            with suppress(TransportUnavailable):
                after = seen[-1].offset if seen else None
                seen.extend(
                    await transport.read(Topic.MESSAGES, 0, after=after, limit=most, wait=1.0)
                )

        async def read_all() -> bool:
            await read(3000 - len(seen))
            return len(seen) == 3000

        for start in range(0, 3000, 300):
            batch = messages(texts[start : start + 300], partition=0, of=transport)
            outcomes = await transport.publish(batch)
            assert all(isinstance(outcome, Appended) for outcome in outcomes)
            await read(50)
            way.proxy.reset()
        await eventually(read_all)
        assert contents(seen) == texts


async def test_requests_that_meet_fail_together(way: _Way) -> None:
    """Each one that connected by itself, after the others, took 4 seconds more."""
    way.proxy.black_hole()
    start = time.monotonic()
    outcomes = await asyncio.gather(
        *(way.transport.read(Topic.MESSAGES, 0) for _ in range(10)), return_exceptions=True
    )
    assert all(isinstance(outcome, TransportUnavailable) for outcome in outcomes)
    assert time.monotonic() - start < 20, "ten, one after the other, took 40"
