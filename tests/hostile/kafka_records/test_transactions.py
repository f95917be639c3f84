"""Producers that use transactions: markers are offsets without a record, and some never commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from ingress.accept.backlog import Backlog
from ingress.messages import Messages
from persistence.database.pool import Pool
from tests.support.eventually import eventually
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.kafka_internals import reader_of
from transport.conformance.envelopes import message
from transport.contract import WORKER_GROUP, Appended, Progress, Record, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_STALLED = 6.5  # seconds after which the watchdog replaces a consumer that gets nothing


@asynccontextmanager
async def _transactions(settings: TransportSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=f"{settings.kafka_topic}-stranger",
    )
    async with producer:
        yield producer


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, *numbers: int, conversation: str = "c"
) -> None:
    for number in numbers:
        one = good(conversation, number)
        await producer.send_and_wait(topic, one.value, key=one.key, partition=partition)


async def _progress(transport: KafkaTransport, partition: int = 0) -> Progress:
    async with asyncio.timeout(2):
        return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[partition]


async def _publish(transport: KafkaTransport, record: Record) -> None:
    """Show that the workers are through a record, as the owner of its partition does."""
    positions = {record.partition: record.offset}
    await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)


async def test_what_is_committed_becomes_rows_and_what_is_aborted_does_not(
    site: KafkaConsumers, kafka_settings: TransportSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """And the consumer lives on, longer than one that is stalled would."""
    topic = kafka_settings.kafka_topic
    with caplog.at_level(logging.WARNING, "transport.kafka"):
        async with _transactions(kafka_settings) as producer:
            async with producer.transaction():
                await _send(producer, topic, 0, 1, 2)
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    await _send(producer, topic, 0, 3, 4)
                    raise ZeroDivisionError
            async with producer.transaction():
                await _send(producer, topic, 0, 5)

        async def stored() -> bool:
            return await site.rows() == ["good 1", "good 2", "good 5"]

        await eventually(stored)  # the coordinator writes the marker after it has answered
        await site.settled()
        began = time.monotonic()
        while time.monotonic() - began < _STALLED:
            await site.transport.ping()
            assert (await _progress(site.transport)).lag == 0
            await asyncio.sleep(0.2)
    assert await site.rows() == ["good 1", "good 2", "good 5"]
    assert "Replacing" not in caplog.text


async def test_a_partition_of_markers_alone_has_no_lag_before_anybody_reads_it(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, database_pool: Pool
) -> None:
    """So a new message does not seem to have records waiting before it."""
    async with _transactions(kafka_settings) as producer:
        for _ in range(2):
            await producer.begin_transaction()
            await _send(producer, kafka_settings.kafka_topic, 0, 1)
            await producer.abort_transaction()

    async def marked() -> bool:
        return (await _progress(kafka_transport)).held == 0

    await eventually(marked)
    progress = await _progress(kafka_transport)
    assert (progress.lag, progress.oldest_age, progress.held) == (0, 0.0, 0)
    backlog = Backlog(kafka_transport, database_pool, limit=1000)
    assert await backlog.behind([(0, "c")]) == set()


async def test_markers_are_settled_with_the_records_before_them(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """A marker is an offset without a record: no read ever returns it."""
    topic = kafka_settings.kafka_topic
    async with _transactions(kafka_settings) as producer, producer.transaction():
        await _send(producer, topic, 0, 1, 2)
    first, second = await kafka_transport.read(Topic.MESSAGES, 0, wait=20)
    await _publish(kafka_transport, first)
    assert (await _progress(kafka_transport)).lag == 2, "the second and the marker"
    await _publish(kafka_transport, second)

    async def passed() -> bool:
        return (await _progress(kafka_transport)).lag == 0

    await eventually(passed)


async def _abort(settings: TransportSettings, *, megabytes: int) -> None:
    async with _transactions(settings) as producer:
        await producer.begin_transaction()
        for _ in range(megabytes):
            await producer.send(settings.kafka_topic, bytes(900_000), partition=0)
        await producer.flush()
        await producer.abort_transaction()
    async with KafkaTransport(settings) as transport:

        async def marked() -> bool:  # the coordinator writes the marker after it has answered
            return all(
                part.held == 0 for part in await transport.progress(Topic.MESSAGES, group="x")
            )

        await eventually(marked)


async def test_what_was_aborted_in_one_partition_keeps_no_other_waiting(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """It is unread. A look that is too short for it goes on with the next."""
    await _abort(kafka_settings, megabytes=4)
    await kafka_transport.publish([message("one", partition=1, of=kafka_transport)])
    reader, lags = reader_of(kafka_transport), []
    for reader.look_within in (0.0, 0.001):
        progress = await kafka_transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert progress[1].lag == 1
        lags.append(progress[0].lag)
    assert lags[0] == 4 + 1, "what was not looked through counts as records"

    async def passed() -> bool:
        reader.look_within *= 1.1  # on a slow machine, the first is too short for a single fetch
        lags.append((await _progress(kafka_transport)).lag)
        return lags[-1] == 0

    await eventually(passed)
    assert lags == sorted(lags, reverse=True)
    reader.look_within = 0.0
    assert (await _progress(kafka_transport)).lag == 0, "it is looked through once"


async def test_an_open_transaction_delays_its_partition_and_nothing_is_lost_or_overtaken(
    site: KafkaConsumers, kafka_settings: TransportSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka gives out nothing behind it. Waiting records count, and are not reported as a stall."""
    topic, transport = kafka_settings.kafka_topic, site.transport
    ours = [message(text, partition=0, of=transport) for text in ("ours 1", "ours 2")]
    elsewhere = message("elsewhere", partition=1, of=transport)
    with caplog.at_level(logging.WARNING, "transport.kafka"):
        async with _transactions(kafka_settings) as producer:
            await producer.begin_transaction()
            await _send(producer, topic, 0, 1)
            outcomes = await transport.publish([*ours, elsewhere])
            assert [type(outcome) for outcome in outcomes] == [Appended] * 3
            began = time.monotonic()
            while time.monotonic() - began < _STALLED:
                await transport.ping()
                progress = await _progress(transport)
                assert (progress.lag, progress.held) == (3, 3)
                await asyncio.sleep(0.2)
            assert (await _progress(transport)).oldest_age > 5  # type: ignore[operator]
            assert await site.rows() == ["elsewhere"]
            backlog = Backlog(transport, site.pool, limit=1000)
            assert await backlog.behind([(0, ours[0].key), (1, "other")]) == {ours[0].key}
            messages = Messages(transport=transport, pool=site.pool, scan=1000, timeout_seconds=2.0)
            with pytest.raises(TransportUnavailable, match="transaction"):
                await messages.find(ours[0].message_id, content=False)
            await producer.commit_transaction()
        await site.settled()
    assert await site.rows() == ["good 1", "ours 1", "ours 2", "elsewhere"]
    assert "Replacing" not in caplog.text


async def test_reading_back_passes_over_markers_and_what_was_aborted(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    topic = kafka_settings.kafka_topic
    async with _transactions(kafka_settings) as producer:
        async with producer.transaction():
            await _send(producer, topic, 0, 1, 2)
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await _send(producer, topic, 0, *range(100, 120))
                raise ZeroDivisionError
        async with producer.transaction():
            await _send(producer, topic, 0, 3)

    async def committed() -> Sequence[Record] | None:
        """Return the records once all can be read: markers come after the answer to the client."""
        found = await kafka_transport.read(Topic.MESSAGES, 0)
        return found if len(found) >= 3 else None

    records = await eventually(committed)
    assert len(records) == 3
    assert list(await kafka_transport.read_back(Topic.MESSAGES, 0, limit=2)) == records[1:]
    assert list(await kafka_transport.read_back(Topic.MESSAGES, 0)) == records
    before = await kafka_transport.read_back(Topic.MESSAGES, 0, before=records[1].offset)
    assert list(before) == records[:1]
