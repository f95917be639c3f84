"""A consumer that needs no record at once lets Kafka gather them."""

from __future__ import annotations

from transport.conformance.member import Member, contents, message, messages
from transport.kafka import KafkaTransport

_LINGER = 8.0
_ENOUGH = 1024 * 1024 + 1  # bytes that end the wait


async def test_kafka_holds_a_record_until_it_has_enough_to_send(
    kafka_transport: KafkaTransport,
) -> None:
    large = [message("x" * 100_000, partition=0, of=kafka_transport) for _ in range(11)]
    assert sum(len(envelope.body) for envelope in large) > _ENOUGH
    async with Member(kafka_transport, linger=_LINGER) as member:
        claim = await member.claim(0)
        await kafka_transport.publish(messages(["first"], partition=0, of=kafka_transport))
        assert not await claim.next(max_records=100, max_wait=1.0)
        await kafka_transport.publish(large)
        records = await claim.next(max_records=100, max_wait=_LINGER / 2)
    assert contents(records)[:1] == ["first"]


async def test_after_a_calm_the_first_record_comes_at_once_and_the_next_one_lingers(
    kafka_transport: KafkaTransport,
) -> None:
    linger = 4.0
    async with Member(kafka_transport, linger=linger) as member:
        claim = await member.claim(0)
        assert not await claim.next(max_records=9, max_wait=linger + 1.0)
        await kafka_transport.publish(messages(["first"], partition=0, of=kafka_transport))
        records = await claim.next(max_records=9, max_wait=linger / 2)
        assert contents(records) == ["first"]
        await kafka_transport.publish(messages(["second"], partition=0, of=kafka_transport))
        assert not await claim.next(max_records=9, max_wait=1.0)
        assert contents(await claim.next(max_records=9, max_wait=2 * linger)) == ["second"]
