"""Records and dead letters: appended, read, and the outcome of each append."""

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
    """The two logs a transport keeps. The messages log is partitioned; dead letters have one."""

    MESSAGES = "messages"
    DEAD_LETTERS = "dead_letters"


class Reason(StrEnum):
    """Why a record is a dead letter (the ``reason`` label of ``stream_dead_letter_total``)."""

    UNDECODABLE = "undecodable"
    REJECTED = "rejected"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    ORPHAN_RECEIPT = "orphan_receipt"
    PAYLOAD_MISSING = "payload_missing"
    PAYLOAD_CORRUPT = "payload_corrupt"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One message on its way into a log.

    ``body`` is what the codec wrote, identical in every log. ``headers`` travel beside it (Redis
    fields, Kafka headers) so that a consumer without our code can route and trace.
    ``fingerprint`` and ``accepted_at`` are what a transport that remembers keys gives back for a
    repeat; they are not sent otherwise. Nor is ``event``, the event that ``body``
    encodes: a claim of the same process is handed it (``HandingClaim``), and need not decode it.
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
    """One record as it stands in a log.

    ``offset`` is opaque text (a Redis entry id, a decimal Kafka offset). Compare two with
    ``Transport.sort_key``. ``appended_at`` is the log's own clock in seconds since the epoch.
    ``delivery_count`` is ``None`` where the log keeps none. ``event`` and ``fingerprint`` are the
    envelope's, where this process appended it; a transport that read the record has neither.
    """

    topic: Topic
    partition: int
    offset: str
    key: str
    body: bytes
    headers: Mapping[str, bytes]
    appended_at: float
    delivery_count: int | None = None
    event: Any = None
    fingerprint: str = ""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """``publish`` appended this envelope at ``offset``."""

    offset: str


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """``publish`` found the message id remembered and appended nothing. The first one's answer."""

    offset: str
    accepted_at: str
    fingerprint: str
    correlation_id: str


Outcome = Appended | Remembered | TransportError
"""The outcome of one envelope. Errors are returned: one item's can't hide the others'."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that can't be persisted for its own fault, bytes intact, with the reason.

    ``error`` is one line for people (no message content, no secrets). ``failed_at`` is RFC 3339.
    """

    record: Record
    reason: Reason
    error: str
    attempts: int
    failed_at: str
