"""Put messages into a log, and copies of some of them into another, as the shadow does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transport.clock import now
from transport.contract import Appended, Envelope, Record, Topic, Transport
from transport.message.envelope import Message, seal_message
from transport.message.identity import idempotency_key, message_id
from transport.shadow.copies import mirrored
from transport.shadow.homes import home_of
from transport.shadow.origin import Origin

__all__ = ["every", "message", "send"]


def message(number: int, conversation: str | None = None) -> Message:
    conversation = conversation or f"c{number % 7}"
    key = idempotency_key("s", conversation, str(number))
    identifier = message_id(key, conversation)
    return Message(
        conversation, "s", str(number), f"text {number} — “ü”", "text", ("r", 'q"\\'), identifier,
        key, now(), f"correlation-{number}",
    )  # fmt: skip


async def send(
    primary: Transport,
    shadow: Transport,
    numbers: Sequence[int],
    *,
    copied: Callable[[int], bool] = lambda _: True,
    mode: str = "sync",
    place: Callable[[int], int] | None = None,
    make: Callable[[int], Message] = message,
) -> dict[int, str]:
    """Append messages, in order, with a copy of those that are ``copied``; return their offsets.

    A copy stands in its home, or where ``place`` puts it, given the primary's partition.
    ``make`` makes the message of a number.
    """
    trace = "00-{:032x}-{:016x}-01"
    envelopes = [
        seal_message(make(n), partitions=primary.partitions, traceparent=trace.format(n + 1, n + 1))
        for n in numbers
    ]
    offsets = {}
    copies: list[Envelope] = []
    for number, envelope, outcome in zip(
        numbers, envelopes, await primary.publish(envelopes), strict=True
    ):
        assert isinstance(outcome, Appended), outcome
        offsets[number] = outcome.offset
        if copied(number):
            of = Origin(primary.name, envelope.partition, outcome.offset)
            home = (
                place(envelope.partition)
                if place
                else home_of(envelope, primary.partitions, shadow.partitions)
            )
            copies.append(mirrored(envelope, of, mode, home=home))
    for outcome in await shadow.publish(copies):
        assert isinstance(outcome, Appended), outcome
    return offsets


async def every(log: Transport) -> list[Record]:
    found: list[Record] = []
    for partition in range(log.partitions):
        after = None
        while page := await log.read(Topic.MESSAGES, partition, after=after):
            found += page
            after = page[-1].offset
    return found
