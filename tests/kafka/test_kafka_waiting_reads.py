"""Reads that wait for a record: woken by an append, continued from memory, and independent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.support.eventually import eventually
from tests.support.kafka import KafkaNode, fresh_settings
from tests.support.kafka_internals import (
    fetches_held,
    followed,
    held_bytes,
    note_fetches,
    reader_of,
)
from transport.clock import now
from transport.conformance.envelopes import contents, message, messages, stored
from transport.contract import DeadLetter, Reason, Record, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.read_ahead import fetcher
from transport.settings import TransportSettings

_LONG = 3600.0  # seconds; no test waits as long


async def _waiting(transport: KafkaTransport, *partitions: int) -> None:
    """Return once reads of these partitions wait at the end of the log."""

    def all_wait() -> bool:
        parts = followed(transport)
        return all(each in parts and parts[each].empty_at > 0 for each in partitions)

    await eventually(all_wait)


async def _all(
    transport: KafkaTransport, count: int, *, partition: int = 0, limit: int = 1000
) -> list[Record]:
    """Return the first records of a partition, by one waiting read after another."""
    found: list[Record] = []
    while len(found) < count:
        after = found[-1].offset if found else None
        got = await transport.read(Topic.MESSAGES, partition, after=after, limit=limit, wait=_LONG)
        assert got
        found += got
    return found


async def test_an_append_ends_the_wait(kafka_transport: KafkaTransport) -> None:
    read = asyncio.create_task(kafka_transport.read(Topic.MESSAGES, 0, wait=_LONG))
    await _waiting(kafka_transport, 0)
    await kafka_transport.publish([message("new", partition=0, of=kafka_transport)])
    assert contents(await read) == ["new"]


async def test_records_that_are_there_are_returned_at_once(kafka_transport: KafkaTransport) -> None:
    await kafka_transport.publish(messages(list("abc"), partition=1, of=kafka_transport))
    assert contents(await _all(kafka_transport, 3, partition=1)) == list("abc")


async def test_a_read_ends_empty_after_its_wait(kafka_transport: KafkaTransport) -> None:
    for wait in (0.01, 0.8):
        began = time.monotonic()
        assert await kafka_transport.read(Topic.MESSAGES, 0, wait=wait) == []
        assert time.monotonic() - began >= wait


async def test_it_is_never_empty_before_the_end_however_short_the_wait(
    kafka_transport: KafkaTransport,
) -> None:
    """A record that was appended before the read began is returned."""
    after: str | None = None
    for number in range(30):
        await kafka_transport.publish([message(str(number), partition=0, of=kafka_transport)])
        (record,) = await kafka_transport.read(Topic.MESSAGES, 0, after=after, wait=0.001)
        assert contents([record]) == [str(number)]
        after = record.offset


async def test_reads_of_many_partitions_and_both_topics_wait_at_once(
    kafka_transport: KafkaTransport,
) -> None:
    reads = [
        asyncio.create_task(kafka_transport.read(Topic.MESSAGES, partition, wait=_LONG))
        for partition in range(4)
    ]
    letters = asyncio.create_task(kafka_transport.read(Topic.DEAD_LETTERS, 0, wait=_LONG))
    await _waiting(kafka_transport, 0, 1, 2, 3)
    for partition in (3, 0, 2, 1):
        text = f"to {partition}"
        await kafka_transport.publish([message(text, partition=partition, of=kafka_transport)])
        assert contents(await reads[partition]) == [text]
    (record,) = await reads[0]
    await kafka_transport.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
    (letter,) = await letters
    assert letter.body == record.body


async def test_two_readers_of_one_partition_both_get_every_record(
    kafka_transport: KafkaTransport,
) -> None:
    texts = [str(number) for number in range(40)]

    async def append() -> None:
        for text in texts:
            await kafka_transport.publish([message(text, partition=0, of=kafka_transport)])

    first, second, _ = await asyncio.gather(
        _all(kafka_transport, 40), _all(kafka_transport, 40, limit=3), append()
    )
    assert contents(first) == texts
    assert contents(second) == texts


async def test_sequential_reads_keep_the_fetch_position(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask for no offset again, and the records fetched ahead come from memory."""
    texts = [str(number) for number in range(200)]
    await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
    fetches = note_fetches(monkeypatch)
    direct: list[object] = []
    monkeypatch.setattr(reader_of(kafka_transport), "read", direct.append)
    first = await _all(kafka_transport, 10, limit=10)
    part = followed(kafka_transport)[0]
    rest: list[Record] = []
    while len(rest) < 190:
        after = rest[-1].offset if rest else first[-1].offset
        rest += await kafka_transport.read(Topic.MESSAGES, 0, after=after, limit=10, wait=_LONG)
    assert contents(first + rest) == texts
    assert followed(kafka_transport)[0] is part
    asked = [positions[part.at] for positions in fetches if part.at in positions]
    assert asked[0] == 0
    assert set(asked[1:]) <= {200}, "one fetch brought them all"
    assert not direct


async def test_the_memory_of_all_partitions_is_bounded_together(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound only a partition without records in memory is fetched."""
    monkeypatch.setattr(fetcher, "_MOST_HELD_BYTES", 1)
    texts = [str(number) for number in range(100)]
    for partition in range(3):
        await kafka_transport.publish(messages(texts, partition=partition, of=kafka_transport))
    read = [await _all(kafka_transport, 1, partition=each, limit=1) for each in range(3)]

    def waits_with_records() -> bool:
        return all(followed(kafka_transport)[each].bytes for each in range(3))

    await eventually(waits_with_records)
    assert held_bytes(kafka_transport) == sum(p.bytes for p in followed(kafka_transport).values())
    fetches = note_fetches(monkeypatch)
    for partition, (first,) in enumerate(read):
        await kafka_transport.publish([message("last", partition=partition, of=kafka_transport)])
        found = [first]
        while len(found) < 100:
            found += await kafka_transport.read(
                Topic.MESSAGES, partition, after=found[-1].offset, limit=10, wait=_LONG
            )
            full = {each for each, part in followed(kafka_transport).items() if part.bytes}
            asked = {at.partition for positions in fetches for at in positions}
            assert not full & asked - {partition}, "a partition with records was fetched"
        assert contents(found) == texts
        (last,) = await kafka_transport.read(
            Topic.MESSAGES, partition, after=found[-1].offset, wait=_LONG
        )
        assert contents([last]) == ["last"]
    assert held_bytes(kafka_transport) == 0


async def test_a_partition_that_is_wanted_later_does_not_wait_for_the_others(
    kafka_transport: KafkaTransport,
) -> None:
    """A long fetch of other partitions is under way, and takes half a second."""
    others = [
        asyncio.create_task(kafka_transport.read(Topic.MESSAGES, partition, wait=_LONG))
        for partition in (1, 2)
    ]
    await _waiting(kafka_transport, 1, 2)
    count = 40
    texts = [str(number) for number in range(count)]
    await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
    began = time.monotonic()
    for number in range(count):
        # Each read elsewhere is a new fetch position: 40 of them would take 20 s.
        after = str(count - 1 - number - 1) if number < count - 1 else None
        (found, *_) = await kafka_transport.read(
            Topic.MESSAGES, 0, after=after, limit=1, wait=_LONG
        )
        assert found.offset == str(count - 1 - number)
    assert time.monotonic() - began < count * 0.5 / 2
    assert not any(read.done() for read in others)
    for read in others:
        read.cancel()


async def test_a_cancelled_wait_leaves_the_client_usable(kafka_transport: KafkaTransport) -> None:
    for _ in range(3):
        read = asyncio.create_task(kafka_transport.read(Topic.MESSAGES, 0, wait=_LONG))
        await _waiting(kafka_transport, 0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
    other = asyncio.create_task(kafka_transport.read(Topic.MESSAGES, 0, wait=_LONG))
    await kafka_transport.publish([message("after", partition=0, of=kafka_transport)])
    assert contents(await other) == ["after"]


async def test_closing_the_log_ends_the_wait_for_good(kafka_settings: TransportSettings) -> None:
    async with KafkaTransport(kafka_settings) as transport:
        read = asyncio.create_task(transport.read(Topic.MESSAGES, 0, wait=_LONG))
        await _waiting(transport, 0)
    with pytest.raises(TransportUnavailable, match="closed"):
        await read
    assert followed(transport) == {}


async def test_own_appends_are_read_from_memory_and_are_what_the_log_has(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    await kafka_transport.publish([message("fetched", partition=0, of=kafka_transport)])
    (fetched,) = await _all(kafka_transport, 1)
    assert (fetched.event, fetched.fingerprint) == (None, "")
    with fetches_held(kafka_transport):
        sent = messages(list("abc"), partition=0, of=kafka_transport)
        reading = asyncio.create_task(
            kafka_transport.read(Topic.MESSAGES, 0, after=fetched.offset, wait=_LONG)
        )
        await asyncio.sleep(0)
        await kafka_transport.publish(sent)
        handed = list(await reading)
    assert [it.event for it in handed] == [it.event for it in sent]
    assert [it.fingerprint for it in handed] == [it.fingerprint for it in sent]
    async with KafkaTransport(kafka_settings) as other:
        assert stored(handed) == (await other.read(Topic.MESSAGES, 0))[1:]
    await kafka_transport.publish([message("d", partition=0, of=kafka_transport)])
    (last,) = await kafka_transport.read(Topic.MESSAGES, 0, after=handed[-1].offset, wait=_LONG)
    assert contents([last]) == ["d"]


async def test_own_appends_that_no_fetch_brings_are_kept_up_to_a_limit(
    kafka_transport: KafkaTransport,
) -> None:
    """Fetches may wait for minutes, for the end of another program's transaction."""
    texts = [f"{number} " + "x" * 200_000 for number in range(20)]
    await kafka_transport.publish([message("fetched", partition=0, of=kafka_transport)])
    (last,) = await _all(kafka_transport, 1)
    with fetches_held(kafka_transport):
        found: list[Record] = []
        for text in texts:
            await kafka_transport.publish([message(text, partition=0, of=kafka_transport)])
            found += await kafka_transport.read(Topic.MESSAGES, 0, after=last.offset, wait=0.01)
            last = found[-1] if found else last
        part = followed(kafka_transport)[0]
        assert 0 < sum(len(record.body) for record in part.handed) < 2 * 1024 * 1024
    while len(found) < len(texts):
        found += await kafka_transport.read(Topic.MESSAGES, 0, after=last.offset, wait=_LONG)
        last = found[-1]
    assert contents(found) == texts


async def test_own_appends_are_not_read_before_those_of_others(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    await kafka_transport.publish([message("fetched", partition=0, of=kafka_transport)])
    (fetched,) = await _all(kafka_transport, 1)
    async with KafkaTransport(kafka_settings) as other:
        with fetches_held(kafka_transport):
            reading = asyncio.create_task(
                kafka_transport.read(Topic.MESSAGES, 0, after=fetched.offset, limit=2, wait=_LONG)
            )
            await other.publish([message("foreign", partition=0, of=other)])
            await kafka_transport.publish([message("own", partition=0, of=kafka_transport)])
            await asyncio.sleep(0.05)
            assert not reading.done()
        found = list(await reading)
    if len(found) < 2:
        found += await kafka_transport.read(Topic.MESSAGES, 0, after=found[-1].offset, wait=_LONG)
    assert contents(found) == ["foreign", "own"]


async def test_a_full_memory_is_fetched_on_as_it_is_read(kafka_transport: KafkaTransport) -> None:
    """More is waiting than is fetched ahead."""
    texts = [f"{number} " + "x" * 2000 for number in range(2000)]
    for first in range(0, 2000, 500):
        some = texts[first : first + 500]
        await kafka_transport.publish(messages(some, partition=0, of=kafka_transport))
    assert len(texts) * 2000 > 3 * 1024 * 1024
    assert contents(await _all(kafka_transport, 2000, limit=100)) == texts
    assert followed(kafka_transport)[0].bytes == 0


async def test_removed_records_are_passed_over(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    await kafka_transport.publish(messages(list("abcd"), partition=0, of=kafka_transport))
    await _remove_below(kafka_settings, 2)
    assert contents(await _all(kafka_transport, 2)) == list("cd")


async def test_an_offset_beyond_the_end_waits_for_its_record(
    kafka_transport: KafkaTransport,
) -> None:
    await kafka_transport.publish(messages(list("ab"), partition=0, of=kafka_transport))
    assert await kafka_transport.read(Topic.MESSAGES, 0, after="2", wait=0.3) == []
    read = asyncio.create_task(kafka_transport.read(Topic.MESSAGES, 0, after="2", wait=_LONG))
    await kafka_transport.publish(messages(list("cd"), partition=0, of=kafka_transport))
    assert contents(await read) == ["d"]


async def test_an_open_transaction_holds_back_what_follows(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """Its records come when it is committed; those of an aborted one never."""
    topic = kafka_settings.kafka_topic
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_settings.kafka_bootstrap_servers, transactional_id=f"{topic}-other"
    )
    async with producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never", partition=0)
        await producer.abort_transaction()
        read = asyncio.create_task(kafka_transport.read(Topic.MESSAGES, 0, wait=_LONG))
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        await kafka_transport.publish([message("plain", partition=0, of=kafka_transport)])
        await _waiting(kafka_transport, 0)
        assert not read.done()
        await producer.commit_transaction()
        found = list(await read)
    while len(found) < 2:
        found += await kafka_transport.read(Topic.MESSAGES, 0, after=found[-1].offset, wait=_LONG)
    assert found[0].body == b"open"
    assert contents(found[1:]) == ["plain"]


async def test_a_wait_outlasts_a_restart_of_the_broker(kafka_server: KafkaNode) -> None:
    """It may raise meanwhile, and never returns in vain without asking the log."""
    settings = fresh_settings(kafka_server.bootstrap)
    async with KafkaTransport(settings) as transport:
        await transport.publish([message("before", partition=0, of=transport)])
        (before,) = await _all(transport, 1)
        read = asyncio.create_task(_patient(transport, before.offset))
        await _waiting(transport, 0)
        await kafka_server.stop()
        await kafka_server.start()
        await eventually(lambda: _is_appended(transport, "after"))
        assert contents(await read)[-1:] == ["after"]


async def test_a_read_raises_while_the_broker_is_away(kafka_server: KafkaNode) -> None:
    settings = fresh_settings(kafka_server.bootstrap)
    async with KafkaTransport(settings) as transport:
        await transport.read(Topic.MESSAGES, 0, wait=0.1)
        read = asyncio.create_task(transport.read(Topic.MESSAGES, 0, wait=600.0))
        await _waiting(transport, 0)
        await kafka_server.stop()
        with pytest.raises(TransportUnavailable):
            await read
        with pytest.raises(TransportUnavailable):
            await transport.read(Topic.MESSAGES, 1, wait=0.1)
        await kafka_server.start()
        await eventually(lambda: _is_appended(transport, "after"))
        # An append without an answer is repeated, and may be there twice.
        assert set(contents(await _patient(transport, None))) == {"after"}


async def _patient(transport: KafkaTransport, after: str | None) -> Sequence[Record]:
    while True:
        try:
            found = await transport.read(Topic.MESSAGES, 0, after=after, wait=_LONG)
        except TransportUnavailable:
            continue
        if found:
            return found


async def _is_appended(transport: KafkaTransport, text: str) -> bool:
    (outcome,) = await transport.publish([message(text, partition=0, of=transport)])
    return not isinstance(outcome, Exception)


async def _remove_below(settings: TransportSettings, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    at = TopicPartition(settings.kafka_topic, 0)
    await admin.delete_records({at: RecordsToDelete(before_offset=offset)})
    await admin.close()
