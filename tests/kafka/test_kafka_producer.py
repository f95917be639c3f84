"""The producer: what a tick brings is one request, numbered so that each record stands once."""

from __future__ import annotations

import asyncio
import struct
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings
from tests.support.kafka_internals import (
    appender_of,
    end_rest,
    note_requests,
    producer_of,
    queue_of,
)
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended, Envelope, Outcome, Topic
from transport.kafka import KafkaTransport
from transport.kafka.producer.batch import Batch
from transport.kafka.producer.produce import Produce
from transport.kafka.producer.producer import Producer
from transport.kafka.records import Outgoing
from transport.settings import TransportSettings


def _producer(transport: KafkaTransport) -> Producer:
    producer = producer_of(transport)
    assert producer is not None
    return producer


def _everywhere(transport: KafkaTransport, text: str) -> list[Envelope]:
    return [message(f"{text} {p}", partition=p, of=transport) for p in range(transport.partitions)]


def _count_requests(transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return note_requests(_producer(transport), monkeypatch)


async def test_what_is_published_at_once_is_one_request_with_a_batch_for_each_partition(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = _count_requests(kafka_transport, monkeypatch)
    calls = [kafka_transport.publish(_everywhere(kafka_transport, f"call {i}")) for i in range(20)]
    for outcomes in await asyncio.gather(*calls):
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert requests == [kafka_transport.partitions]
    for p in range(kafka_transport.partitions):
        stands = contents(await kafka_transport.read(Topic.MESSAGES, p))
        assert stands == [f"call {i} {p}" for i in range(20)]


async def test_what_comes_while_a_batch_is_under_way_is_the_next_one_and_is_sent_once(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = _count_requests(kafka_transport, monkeypatch)
    line = queue_of(kafka_transport)
    await kafka_server.suspend()
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks.append(_start(kafka_transport, "first"))
        await eventually(lambda: len(requests) == 1)
        for i in range(10):
            tasks.append(_start(kafka_transport, f"later {i}"))
            await eventually(lambda i=i: line.waiting and line.waiting[0].count == i + 1)  # type: ignore[misc]
    finally:
        await kafka_server.resume()
    for outcomes in await asyncio.gather(*tasks):
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
    assert requests == [kafka_transport.partitions] * 2
    stands = contents(await kafka_transport.read(Topic.MESSAGES, 0))
    assert stands == ["first 0", *[f"later {i} 0" for i in range(10)]]


async def test_a_rest_that_ends_while_the_batch_is_under_way_again_sends_nothing(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is if there was no leader, and then, before the rest was over, one more to send."""
    requests = _count_requests(kafka_transport, monkeypatch)
    producer = _producer(kafka_transport)
    line = queue_of(kafka_transport)
    await kafka_server.suspend()
    try:
        task = _start(kafka_transport, "once")
        await eventually(lambda: len(requests) == 1)
        end_rest(producer, line)
        second = _start(kafka_transport, "next")
        await eventually(lambda: len(line.waiting) == 1)
        assert len(requests) == 1
    finally:
        await kafka_server.resume()
    await asyncio.gather(task, second)
    assert len(requests) == 2


async def test_large_records_of_many_partitions_are_several_requests(
    kafka_settings: TransportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker closes the connection at a request of 100 MB, as often as it is sent."""
    update = {"stream_partitions": 27, "kafka_timeout_ms": 20_000}
    async with KafkaTransport(kafka_settings.model_copy(update=update)) as transport:
        requests = _count_requests(transport, monkeypatch)
        outcomes = await transport.publish(_everywhere(transport, "x" * 4_000_000))
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        assert sum(requests) == 27, "each was sent once"


def _start(transport: KafkaTransport, text: str) -> asyncio.Task[Any]:
    return asyncio.create_task(_listed(transport, text))


async def _listed(transport: KafkaTransport, text: str) -> list[Outcome]:
    return list(await transport.publish(_everywhere(transport, text)))


async def test_a_batch_that_is_full_is_followed_by_the_next_in_order(
    kafka_transport: KafkaTransport,
) -> None:
    texts = [f"{i} " + "x" * 20_000 for i in range(40)]
    outcomes = await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
    assert [outcome.offset for outcome in outcomes if isinstance(outcome, Appended)] == [
        str(i) for i in range(40)
    ]
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == texts


async def test_numbers_begin_again_after_the_last(kafka_transport: KafkaTransport) -> None:
    """They have 31 bits: a partition with 1,000 messages a second has used them in 25 days."""
    producer = _producer(kafka_transport)
    line = queue_of(kafka_transport)
    line.sequence = 2**31 - 4
    for texts in (["a"], ["b"], ["c", "d", "e"], ["f"]):
        outcomes = await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
        assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    assert line.sequence == 2
    assert _producer(kafka_transport) is producer
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == list("abcdef")


async def test_the_last_number_is_followed_by_the_first(kafka_transport: KafkaTransport) -> None:
    line = queue_of(kafka_transport)
    line.sequence = 2**31 - 1
    for text in "ab":
        one = message(text, partition=0, of=kafka_transport)
        (outcome,) = await kafka_transport.publish([one])
        assert isinstance(outcome, Appended), outcome
    assert line.sequence == 1


async def test_closing_delivers_what_is_under_way_and_what_waits(
    kafka_server: KafkaServer, kafka_settings: TransportSettings
) -> None:
    transport = KafkaTransport(kafka_settings)
    async with transport:
        line = queue_of(transport)
        await kafka_server.suspend()
        try:
            first = _start(transport, "under way")
            await eventually(lambda: line.under_way is not None)
            second = _start(transport, "waits")
            await eventually(lambda: len(line.waiting) == 1)
            closing = asyncio.create_task(appender_of(transport).close())
            await eventually(lambda: producer_of(transport) is None)
        finally:
            await kafka_server.resume()
        await closing
        for outcomes in await asyncio.gather(first, second):
            assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes


@pytest.mark.parametrize(
    ("codec", "number"), [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)]
)
async def test_every_compression_is_written_and_read(
    kafka_server: KafkaServer, codec: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[bytes] = []
    make = Batch.number

    def watched(self: Batch, producer: int, epoch: int, sequence: int) -> None:
        make(self, producer, epoch, sequence)
        built.append(bytes(self.data))

    monkeypatch.setattr(Batch, "number", watched)
    settings = fresh_settings(kafka_server.bootstrap).model_copy(
        update={"kafka_compression": codec}
    )
    texts = [f"{i} " + "the same again and again " * 20 for i in range(50)]
    async with KafkaTransport(settings) as transport:
        await transport.publish(messages(texts, partition=0, of=transport))
        assert contents(await transport.read(Topic.MESSAGES, 0)) == texts
    (attributes,) = struct.unpack_from(">h", built[0], 21)
    assert attributes & 7 == number
    assert (len(built[0]) < 10_000) is (codec != "none")


def test_a_request_is_what_aiokafka_would_have_written() -> None:
    topics = {"msg.stream": [(3, b"three"), (0, b"")], "msg.dlq": [(1, b"one" * 1000)]}
    question = Produce(topics, 1600).build(None)
    theirs = ProduceRequest_v7(None, -1, 1600, list(topics.items()))
    assert question.encode() == theirs.encode()
    assert (question.API_KEY, question.API_VERSION) == (theirs.API_KEY, theirs.API_VERSION)


def test_an_answer_is_read_as_aiokafka_writes_it() -> None:
    theirs = ProduceResponse_v7(
        [
            ("msg.stream", [(0, 0, 5_000_000_000, 1_700, 0), (15, 45, -1, -1, -1)]),
            ("msg.dlq", [(0, 6, -1, -1, -1)]),
        ],
        0,
    )
    answer = Produce({}, 0).build(None).RESPONSE_TYPE.decode(BytesIO(theirs.encode()))
    assert answer.partitions == {
        ("msg.stream", 0): (0, 5_000_000_000, 1_700),
        ("msg.stream", 15): (45, -1, -1),
        ("msg.dlq", 0): (6, -1, -1),
    }


@pytest.mark.parametrize("length", [0, 3, 10, 30])
def test_an_answer_that_is_cut_short_is_no_answer(length: int) -> None:
    theirs = ProduceResponse_v7([("msg.stream", [(0, 0, 7, -1, 0)])], 0).encode()
    with pytest.raises(struct.error):
        Produce({}, 0).build(None).RESPONSE_TYPE.decode(BytesIO(theirs[:length]))


def test_a_batch_ends_once() -> None:
    batch = Batch(0)
    assert batch.add(Outgoing(b"key", b"value", []))
    batch.end(base=7)
    batch.end(base=9)
    assert (batch.base, batch.error) == (7, None)
