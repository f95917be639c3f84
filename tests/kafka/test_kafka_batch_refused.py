"""Batches that a topic takes no more, because somebody has lowered its ``max.message.bytes``."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.eventually import eventually
from tests.support.kafka import alter_topic
from tests.support.kafka_internals import lose_answer, note_requests, producer_of
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended, DeadLetter, Outcome, Reason, Record, Topic
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.administration.topics import topic_specs
from transport.settings import TransportSettings

_LIMIT = 20_000


async def _lower(transport: KafkaTransport, settings: TransportSettings, topic: Topic) -> None:
    """Lower a topic's limit, and return once the broker acts on it."""
    spec = topic_specs(settings)[topic]
    config = {**spec.config, "max.message.bytes": str(_LIMIT)}
    await alter_topic(settings.kafka_bootstrap_servers, spec.name, config)

    async def is_lower() -> bool:
        return any(spec.name in line for line in await transport.alterations())

    await eventually(is_lower)


async def test_messages_that_fit_alone_are_taken_in_smaller_batches(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """And the producer stays: in its place, the batches of all other partitions would fail too."""
    await _lower(kafka_transport, kafka_settings, Topic.MESSAGES)
    producer = producer_of(kafka_transport)
    texts = [f"{i} {'x' * 5_000}" for i in range(20)]
    wanted, refusals = messages(texts, partition=0, of=kafka_transport), 0
    elsewhere = 0
    while wanted:
        small = message("small", partition=1, of=kafka_transport)
        *outcomes, other = await kafka_transport.publish([*wanted, small])
        assert isinstance(other, Appended), "another partition's batch is not refused with it"
        elsewhere += 1
        if all(isinstance(outcome, Appended) for outcome in outcomes):
            break
        assert all(type(outcome) is TransportUnavailable for outcome in outcomes), (
            "all of them, in order to be tried again in order; and surely not appended"
        )
        refusals += 1
        assert refusals < 6
    assert refusals, "the limit was lowered"
    assert producer_of(kafka_transport) is producer
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == texts
    assert contents(await kafka_transport.read(Topic.MESSAGES, 1)) == ["small"] * elsewhere


async def test_batches_are_full_again_once_the_limit_is_restored(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A partition has one batch under way: with small ones it takes a fifth of the messages."""
    await _lower(kafka_transport, kafka_settings, Topic.MESSAGES)
    many = messages(["x" * 5_000] * 20, partition=0, of=kafka_transport)

    async def are_appended() -> bool:
        outcomes = await kafka_transport.publish(many)
        return all(isinstance(outcome, Appended) for outcome in outcomes)

    assert not await are_appended()
    await eventually(are_appended)
    producer = producer_of(kafka_transport)
    assert producer is not None
    requests = note_requests(producer, monkeypatch)
    assert await are_appended()
    assert len(requests) > 1, "batches are small"
    spec = topic_specs(kafka_settings)[Topic.MESSAGES]
    await alter_topic(kafka_settings.kafka_bootstrap_servers, spec.name, spec.config)

    async def is_restored() -> bool:
        return not await kafka_transport.alterations()

    await eventually(is_restored)
    requests.clear()
    assert await are_appended()
    assert len(requests) == 1


async def test_one_message_that_is_too_large_is_refused_and_nobody_else(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    await _lower(kafka_transport, kafka_settings, Topic.MESSAGES)
    producer = producer_of(kafka_transport)
    large = message("x" * 200_000, partition=0, of=kafka_transport)
    small = message("small", partition=0, of=kafka_transport)

    async def refused() -> Sequence[Outcome]:
        # The first record's batch takes no second one, so the small one has a batch of its own.
        return await kafka_transport.publish([large, small])

    for _ in range(3):
        first, second = await refused()
        assert type(first) is TransportError
        assert isinstance(second, Appended)
    assert producer_of(kafka_transport) is producer
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == ["small"] * 3


async def test_what_may_have_been_appended_before_it_is_refused_is_unknown(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker looks at the size first: it does not say that it has the batch already."""
    producer = producer_of(kafka_transport)
    assert producer is not None
    lose_answer(
        producer, monkeypatch, lambda: _lower(kafka_transport, kafka_settings, Topic.MESSAGES)
    )
    text = "x" * 200_000
    (outcome,) = await kafka_transport.publish([message(text, partition=0, of=kafka_transport)])
    assert isinstance(outcome, AppendUnknown)
    assert contents(await kafka_transport.read(Topic.MESSAGES, 0)) == [text]

    async def appended() -> bool:
        small = message("small", partition=0, of=kafka_transport)
        return isinstance((await kafka_transport.publish([small]))[0], Appended)

    await eventually(appended)


async def test_dead_letters_that_fit_alone_do_not_keep_their_partition(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """A worker sends the same letters again and again, until all are taken."""
    await _lower(kafka_transport, kafka_settings, Topic.DEAD_LETTERS)
    letters = [_letter(offset) for offset in range(20)]

    async def taken() -> bool:
        try:
            await kafka_transport.dead_letter(letters)
        except TransportUnavailable:
            return False
        return True

    await eventually(taken)
    found = await kafka_transport.read(Topic.DEAD_LETTERS, 0)
    assert [record.body for record in found] == [letter.record.body for letter in letters]


def _letter(offset: int) -> DeadLetter:
    record = Record(Topic.MESSAGES, 0, str(offset), "key", b"%d " % offset * 1_000, {}, 0.0)
    return DeadLetter(record, Reason.REJECTED, "no", 1, "2026-11-29T00:00:00Z")
