"""Envelopes, records and dead letters, and the outcomes of appends."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from transport.errors import TransportError

__all__ = [
    "Appended",
    "DeadLetter",
    "Envelope",
    "Outcome",
    "Reason",
    "Record",
    "Remembered",
    "Topic",
]


class Topic(StrEnum):
    """The two topics of a log. Messages have several partitions, dead letters have one."""

    MESSAGES = "messages"
    DEAD_LETTERS = "dead_letters"


class Reason(StrEnum):
    """The reason of a dead letter (the ``reason`` label of ``stream_dead_letter_total``)."""

    UNDECODABLE = "undecodable"
    REJECTED = "rejected"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    ORPHAN_RECEIPT = "orphan_receipt"
    PAYLOAD_MISSING = "payload_missing"
    PAYLOAD_CORRUPT = "payload_corrupt"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One message on its way into a log.

    ``body`` is the encoded message, with the same bytes in every log. ``headers`` are sent beside
    it (Redis fields, Kafka headers), so that a consumer without our code can route and trace. A
    transport that remembers message ids returns ``fingerprint`` and ``accepted_at`` for a repeat;
    otherwise they are not sent. ``event`` is never sent: it is the decoded ``body``, so that a read
    which this process answers from memory need not decode it (``Transport.read``).
    """

    message_id: str
    partition: int
    key: str
    body: bytes
    headers: Mapping[str, str]
    accepted_at: str = ""
    fingerprint: str = ""
    event: Any = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record in a log.

    ``offset`` is opaque text (a Redis entry id, a decimal Kafka offset); compare two offsets with
    ``Transport.sort_key``. ``appended_at`` is the time of the append by the log's clock, in seconds
    since the Unix epoch. ``event`` and ``fingerprint`` are those of the envelope if a read returned
    the record from the memory of the process that appended it; a record from the log has neither.
    """

    topic: Topic
    partition: int
    offset: str
    key: str
    body: bytes
    headers: Mapping[str, bytes]
    appended_at: float
    event: Any = None
    fingerprint: str = ""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an envelope that ``publish`` appended at ``offset``."""

    offset: str


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a repeat: ``publish`` appended nothing. The fields are those of the first."""

    offset: str
    accepted_at: str
    fingerprint: str
    correlation_id: str


Outcome = Appended | Remembered | TransportError
"""The outcome of one envelope. An error is returned, not raised, so that it hides no other one."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that can't be stored for its own fault, with intact bytes and the reason.

    ``error`` is one line for people, without message content or secrets. ``failed_at`` is RFC 3339.
    """

    record: Record
    reason: Reason
    error: str
    attempts: int
    failed_at: str
