"""Envelopes as Kafka records and back: key, value and headers, as any client sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

from transport.contract import DeadLetter, Envelope, Record, Topic
from transport.dead_letters import dead_letter_headers

__all__ = ["Headers", "Outgoing", "outgoing_dead_letter", "outgoing_envelope", "record_of"]

Headers = Sequence[tuple[str, bytes | None]]


class Outgoing(NamedTuple):
    """What is appended. ``None`` is Kafka's null, which is not the same as empty."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size(self) -> int:
        """Bytes, without the few that Kafka adds to each record."""
        size = len(self.key or b"") + len(self.value or b"")
        return size + sum(len(name) + len(value or b"") for name, value in self.headers)


class _Verbatim(dict[str, bytes]):
    """Headers of a record that the contract's types can't hold whole, with the record as it was.

    Kafka allows what our own producer never writes: no key or a binary one, no value, a header
    twice or without a value. A dead letter of such a record must still be the same bytes.
    """

    original: Outgoing


def outgoing_envelope(envelope: Envelope) -> Outgoing:
    """Return the record for an envelope. The key is the conversation: its partition follows."""
    headers = [(name, value.encode()) for name, value in envelope.headers.items()]
    return Outgoing(envelope.key.encode(), envelope.body, headers)


def outgoing_dead_letter(letter: DeadLetter, topic: str) -> Outgoing:
    """Return the record for a dead letter of ``topic``: the original, with headers that say why."""
    record = letter.record
    headers = dead_letter_headers(letter, topic=topic)
    if isinstance(record.headers, _Verbatim):
        key, value, pairs = record.headers.original
        ours = [(n, v) for n, v in headers.items() if record.headers.get(n) != v]
        renewed = {name for name, _ in ours}
        kept = [(n, v) for n, v in pairs if n not in renewed]
        return Outgoing(key, value, [*kept, *ours])
    return Outgoing(record.key.encode(), record.body, list(headers.items()))


def record_of(topic: Topic, raw: ConsumerRecord) -> Record:
    """Return what a client fetched, as the contract's record."""
    headers = dict(raw.headers)
    try:
        key = raw.key.decode()
        plain = raw.value is not None and len(headers) == len(raw.headers)
        plain = plain and None not in headers.values()
    except (AttributeError, UnicodeDecodeError):
        key = (raw.key or b"").decode("utf-8", "replace")
        plain = False
    if not plain:
        verbatim = _Verbatim({name: value or b"" for name, value in headers.items()})
        verbatim.original = Outgoing(raw.key, raw.value, raw.headers)
        headers = verbatim
    return Record(
        topic,
        raw.partition,
        str(raw.offset),
        key,
        raw.value or b"",
        headers,
        raw.timestamp / 1000,
    )
