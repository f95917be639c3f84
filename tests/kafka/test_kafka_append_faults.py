"""Appending while the broker fails: bounded answers, honest ones, and a producer that recovers."""

from __future__ import annotations

import asyncio
import time

import pytest

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka_internals import appender_of, producer_of, queue_of, replace_producer
from tests.support.whole_log import records_of
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended, Outcome, Topic
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


async def _one(transport: KafkaTransport, text: str, partition: int = 0) -> Outcome:
    (outcome,) = await transport.publish([message(text, partition=partition, of=transport)])
    return outcome


async def _appended(transport: KafkaTransport, text: str) -> bool:
    return isinstance(await _one(transport, text), Appended)


async def _stands(transport: KafkaTransport) -> list[str]:
    """Return what a partition holds; nothing while a broker that slept can't be read in time."""
    try:
        return contents(await transport.read(Topic.MESSAGES, 0))
    except TransportUnavailable:
        return []


async def test_a_frozen_broker_is_answered_for_in_time_and_then_at_once(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport
) -> None:
    await _one(kafka_transport, "before")
    await kafka_server.suspend()
    try:
        assert isinstance(await _one(kafka_transport, "unknown"), AppendUnknown)
        why = "for too long: Kafka (did not answer in time|can't be reached)"
        with pytest.raises(TransportUnavailable, match=why):
            await kafka_transport.ping()
        took = []
        for _ in range(3):
            began = time.monotonic()
            refused = await _one(kafka_transport, "refused")
            took.append(time.monotonic() - began)
            assert isinstance(refused, TransportUnavailable)
            assert "not sent" in str(refused)
        assert min(took) < 2, "a partition that is stuck is waited for 2 s again"
    finally:
        await kafka_server.resume()
    await eventually(lambda: _appended(kafka_transport, "after"))
    stands = contents(await kafka_transport.read(Topic.MESSAGES, 0))
    assert "refused" not in stands, "it was said not to be sent"
    assert stands.count("unknown") == 1, "sent again as often as need be, and appended once"
    assert [text for text in stands if text != "unknown"] == ["before", "after"]


async def test_what_waits_behind_a_batch_that_is_not_acknowledged_is_not_sent(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport
) -> None:
    """It was never given to the producer, so the answer is certain, and no record follows it."""
    await kafka_server.suspend()
    try:
        first, waiting = await _one_behind_another(kafka_transport)
        assert isinstance(await first, AppendUnknown)
        refused = await waiting
    finally:
        await kafka_server.resume()
    assert isinstance(refused, TransportUnavailable)
    assert "not sent" in str(refused)
    await eventually(lambda: _appended(kafka_transport, "after"))
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == ["first", "after"]


async def test_what_waits_while_the_producer_is_replaced_is_not_sent(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport
) -> None:
    await kafka_server.suspend()
    try:
        first, waiting = await _one_behind_another(kafka_transport)
        replace_producer(kafka_transport)
        assert isinstance(await first, AppendUnknown)
        refused = await waiting
    finally:
        await kafka_server.resume()
    assert isinstance(refused, TransportUnavailable)
    await eventually(lambda: _appended(kafka_transport, "after"))
    assert "waiting" not in await eventually(lambda: _stands(kafka_transport))


async def test_a_transport_closed_while_its_producer_is_replaced_closes(
    kafka_server: KafkaServer, kafka_settings: TransportSettings
) -> None:
    async with KafkaTransport(kafka_settings) as transport:
        await kafka_server.suspend()
        try:
            first, waiting = await _one_behind_another(transport)
            replace_producer(transport)
            async with asyncio.timeout(20):
                await appender_of(transport).close()
            assert isinstance(await first, AppendUnknown)
            assert isinstance(await waiting, TransportUnavailable)
        finally:
            await kafka_server.resume()


async def _one_behind_another(
    transport: KafkaTransport,
) -> tuple[asyncio.Task[Outcome], asyncio.Task[Outcome]]:
    """Publish twice to one partition of a broker that does not answer."""
    line = queue_of(transport)
    first = asyncio.create_task(_one(transport, "first"))
    # At the next turns of the loop: once the first is late, nothing may wait behind it.
    await eventually(lambda: line.under_way is not None, every=0.0)
    waiting = asyncio.create_task(_one(transport, "waiting"))
    await eventually(lambda: len(line.waiting) == 1, every=0.0)
    return first, waiting


async def test_a_cancelled_publish_is_appended_all_the_same_and_hurts_nobody(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport
) -> None:
    """Its batch is under way, and others' records are in it."""
    await _one(kafka_transport, "before")
    line = queue_of(kafka_transport)
    await kafka_server.suspend()
    try:
        texts = ("cancelled", "beside it")
        cancelled, beside = [asyncio.create_task(_one(kafka_transport, t)) for t in texts]
        await eventually(lambda: line.under_way is not None)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        waits = asyncio.create_task(_one(kafka_transport, "cancelled while it waits"))
        after = asyncio.create_task(_one(kafka_transport, "after"))
        await eventually(lambda: line.waiting and line.waiting[0].count == 2)
        waits.cancel()
        await asyncio.wait([waits])
    finally:
        await kafka_server.resume()
    assert isinstance(await beside, Appended)
    assert isinstance(await after, Appended)
    stands = contents(await kafka_transport.read(Topic.MESSAGES, 0))
    assert stands == ["before", "cancelled", "beside it", "cancelled while it waits", "after"]


async def test_a_broken_sequence_replaces_the_producer(kafka_transport: KafkaTransport) -> None:
    """Aiokafka issue 1017: after one failed batch, the broker refuses all that follow."""
    await _one(kafka_transport, "before")
    broken = producer_of(kafka_transport)
    assert broken is not None
    queue_of(kafka_transport).sequence += 5
    assert isinstance(await _one(kafka_transport, "lost in the hole"), AppendUnknown)
    await eventually(lambda: _appended(kafka_transport, "after"))
    assert producer_of(kafka_transport) is not broken
    await kafka_transport.ping()
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == ["before", "after"]


async def test_while_the_producer_is_replaced_nothing_is_sent(
    kafka_transport: KafkaTransport,
) -> None:
    replace_producer(kafka_transport)
    refused = await _one(kafka_transport, "too early")
    assert isinstance(refused, TransportUnavailable)
    with pytest.raises(TransportUnavailable, match="for this test"):
        await kafka_transport.ping()
    await eventually(lambda: _appended(kafka_transport, "after"))
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == ["after"]


async def test_a_record_that_is_too_large_fails_alone(kafka_transport: KafkaTransport) -> None:
    large = message("x" * 5_000_000, partition=0, of=kafka_transport)
    small = message("small", partition=0, of=kafka_transport)
    refused, appended = await kafka_transport.publish([large, small])
    assert type(refused) is TransportError
    assert isinstance(appended, Appended)
    most = message("x" * 4_100_000, partition=0, of=kafka_transport)
    (outcome,) = await kafka_transport.publish([most])
    assert isinstance(outcome, Appended)


async def test_a_broker_killed_and_restarted_under_load_loses_nothing_acknowledged(
    kafka_server: KafkaServer, kafka_settings: TransportSettings
) -> None:
    async with KafkaTransport(kafka_settings) as transport:
        acknowledged: list[list[str]] = [[] for _ in range(transport.partitions)]
        stop = asyncio.Event()

        async def load(partition: int) -> None:
            i = 0
            while not stop.is_set():
                texts = [f"{partition}:{i + k}" for k in range(5)]
                outcomes = await transport.publish(
                    messages(texts, partition=partition, of=transport)
                )
                acknowledged[partition] += [
                    text
                    for text, outcome in zip(texts, outcomes, strict=True)
                    if isinstance(outcome, Appended)
                ]
                i += 5
                await asyncio.sleep(0.02)

        def all_grown(since: list[int]) -> bool:
            return all(len(a) > n + 20 for a, n in zip(acknowledged, since, strict=True))

        tasks = [asyncio.create_task(load(p)) for p in range(transport.partitions)]
        try:
            for _ in range(2):
                since = [len(a) for a in acknowledged]
                await eventually(lambda since=since: all_grown(since))  # type: ignore[misc]
                await kafka_server.kill()
                await kafka_server.start()
            since = [len(a) for a in acknowledged]
            await eventually(lambda: all_grown(since))
        finally:
            stop.set()
            await asyncio.gather(*tasks)
        for partition, texts in enumerate(acknowledged):
            stands = contents(await records_of(transport, partition))
            assert len(stands) == len(set(stands)), "each was sent under one sequence number"
            known = set(texts)
            assert [text for text in stands if text in known] == texts, "all there, in order"
