"""A transport of somebody else's, as mypy sees it. ``make check`` checks it; nothing runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from crossfade.envelope import Event, Message, Receipt, decode
from crossfade.settings import Settings, TransportSettings, load
from crossfade.transport import (
    Appended,
    Envelope,
    LogLocation,
    Outcome,
    Record,
    Remembered,
    Topic,
    Transport,
    TransportError,
    create,
)


async def reads(transport: Transport) -> None:
    records = await transport.read(Topic.MESSAGES, 0, after=None, limit=10, wait=0.5)
    assert_type(records, Sequence[Record])
    positions = {0: records[-1].offset}
    await transport.publish_positions(Topic.MESSAGES, positions, group="readers")
    await transport.read(Topic.MESSAGES, 0, after=records[-1])  # type: ignore[arg-type]


def is_somewhere(transport: Transport) -> str:
    assert_type(transport.location, LogLocation)
    assert_type(transport.name, str)
    assert_type(transport.system, str)
    return transport.location.address


async def appends(transport: Transport, envelope: Envelope) -> str:
    outcomes = await transport.publish([envelope])
    assert_type(outcomes, Sequence[Outcome])
    (outcome,) = outcomes
    match outcome:
        case Appended(offset=offset):
            return offset
        case Remembered():
            return outcome.accepted_at
        case TransportError():
            raise outcome


def decodes(record: Record) -> str:
    event: Event = decode(record)
    if isinstance(event, Message):
        return event.content
    assert_type(event, Receipt)
    return event.user_id


def settings() -> Transport:
    everything = load()
    assert_type(everything, Settings)
    assert_type(everything.transport, TransportSettings)
    return create("redis", everything.transport)


def topic() -> Topic:
    return "messages"  # type: ignore[return-value]
