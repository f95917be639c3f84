"""The conversion of envelopes to Kafka records and back: key, value and headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

from transport.contract import DeadLetter, Envelope, Record, Topic
from transport.message.dead_letters import dead_letter_headers

__all__ = [
    "Headers",
    "Outgoing",
    "outgoing_dead_letter",
    "outgoing_envelope",
    "raw_name",
    "raw_size",
    "record_of",
]

Headers = Sequence[tuple[str, bytes | None]]
"""Names and values. A name that is not UTF-8 is decoded and encoded with ``surrogateescape``."""
_FIELDS_MOST = 10  # the most bytes for the lengths of a header's name and value
_UTF8_MOST = 4  # the most bytes of a character


def raw_name(name: str) -> bytes:
    """Return the bytes of a header's name."""
    return name.encode("utf-8", "surrogateescape")


def raw_size(raw: ConsumerRecord) -> int:
    """Return the size of a fetched record: the bytes of its key, value and headers' values."""
    size = len(raw.key or b"") + len(raw.value or b"")
    return size + sum(len(value or b"") for _, value in raw.headers)


class Outgoing(NamedTuple):
    """A record to append. ``None`` is Kafka's null, which differs from empty."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size(self) -> int:
        """An upper bound of the record's bytes, without the few that Kafka adds to each record."""
        size = len(self.key or b"") + len(self.value or b"") + _FIELDS_MOST * len(self.headers)
        return size + sum(
            _UTF8_MOST * len(name) + len(value or b"") for name, value in self.headers
        )

    @property
    def is_text(self) -> bool:
        """Whether every header's name is valid text: aiokafka can't write other names."""
        return _is_text(name for name, _ in self.headers)


class _Verbatim(dict[str, bytes]):
    """Headers of a foreign record that a ``Record`` can't hold whole, with the original record.

    Kafka allows records that our producer never writes: without a key or a value, or with a header
    that comes twice or has no value. A dead letter of such a record has to keep the same bytes.
    """

    original: Outgoing


def outgoing_envelope(envelope: Envelope) -> Outgoing:
    """Return the record for an envelope. Its key is the conversation, which sets the partition."""
    headers = [(name, value.encode()) for name, value in envelope.headers.items()]
    return Outgoing(envelope.key.encode(), envelope.body, headers)


def outgoing_dead_letter(letter: DeadLetter, topic: str) -> Outgoing:
    """Return the record for a dead letter of ``topic``: the original with more headers.

    The added headers have the reason.
    """
    record = letter.record
    headers = dead_letter_headers(letter, topic=topic)
    if isinstance(record.headers, _Verbatim):
        key, value, pairs = record.headers.original
        ours = [(n, v) for n, v in headers.items() if record.headers.get(n) != v]
        renewed = {name for name, _ in ours}
        kept = [(n, v) for n, v in pairs if n not in renewed]
        return Outgoing(key, value, [*kept, *ours])
    key = record.key.encode("utf-8", "surrogateescape")
    return Outgoing(key, record.body, list(headers.items()))


def record_of(topic: Topic, raw: ConsumerRecord) -> Record:
    """Return the contract's ``Record`` for a fetched one."""
    headers = dict(raw.headers)
    plain = raw.key is not None and raw.value is not None and len(headers) == len(raw.headers)
    plain = plain and None not in headers.values()
    if not plain:
        verbatim = _Verbatim({name: value or b"" for name, value in headers.items()})
        verbatim.original = Outgoing(raw.key, raw.value, raw.headers)
        headers = verbatim
    return Record(
        topic,
        raw.partition,
        str(raw.offset),
        (raw.key or b"").decode("utf-8", "surrogateescape"),
        raw.value or b"",
        headers,
        raw.timestamp / 1000,
    )


def _is_text(names: Iterable[str]) -> bool:
    joined = "".join(names)
    if joined.isascii():
        return True
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True
