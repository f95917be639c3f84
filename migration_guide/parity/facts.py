"""Facts of a record for a comparison: digests and a few ids, never the body."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

import msgspec

from migration_guide.parity.result import ParityResult
from persistence.worker.batch.decoding import trace_id_of
from transport.contract import Record
from transport.errors import DecodeError
from transport.message.envelope import (
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_MIRROR_OF,
    HEADER_SHADOW_MODE,
    HEADER_TRACEPARENT,
    Message,
    decode,
)

__all__ = ["AGREEING", "Facts", "Mode", "SortKey", "accepted_at", "facts_of"]

AGREEING = (
    HEADER_MESSAGE_ID,
    HEADER_CORRELATION_ID,
    HEADER_CONTENT_TYPE,
    HEADER_TRACEPARENT,
)
"""Headers that are the same in both logs, as the key is."""

SortKey = Callable[[str], bytes]


class Mode(StrEnum):
    """How a record came into its log: ``original`` by a producer, else as a copy."""

    ORIGINAL = "original"
    ASYNC = "async"
    SYNC = "sync"
    BACKFILL = "backfill"


class Facts(msgspec.Struct, gc=False):
    """The facts of one record. ``side``: 0 in the primary, 1 in the shadow.

    ``place`` sorts as the log does. ``identity`` is a digest of the message's name, the same in
    every log; ``scope`` is a digest of the key (the conversation), within which order counts.
    ``body`` is a digest of the body, ``beside`` of the key and of the headers in ``AGREEING``.
    ``content`` is a digest of what the sender sent, the same for each of its retries. ``mirror`` is
    the offset, in the other log, of the record that this is a copy of, and ``mirror_place`` its
    place. Times are seconds since the epoch.

    The other fields are set while the record waits for its counterpart. ``known``: the content of
    another record of the same message, which both logs have. ``judged``: the result that the record
    was counted as, until its counterpart comes after all. ``refused``: a backfill can't copy it.
    ``passed_…``: how many later messages have passed it, by the proof there is for each pair.
    ``passed_by``: the id of the first of them.
    """

    side: int
    offset: str
    place: bytes
    identity: bytes
    scope: bytes
    body: bytes
    content: bytes
    beside: bytes
    mode: Mode
    mirror: str | None
    mirror_place: bytes
    accepted_at: float
    appended_at: float
    message_id: str
    correlation_id: str
    trace_id: str | None
    known: bytes | None = None
    judged: ParityResult | None = None
    refused: bool = False
    passed_overlapping: int = 0
    passed_backfilled: int = 0
    passed_differing: int = 0
    passed_unproven: int = 0
    passed_backfilled_unproven: int = 0
    passed_by: str | None = None


def facts_of(
    record: Record, side: int, *, other: str, sort_key: SortKey, other_key: SortKey
) -> Facts:
    """Return the facts of a record of one log; ``other`` is the name of the other log."""
    message_id = _text(record, HEADER_MESSAGE_ID)
    accepted_at = record.appended_at
    body = content = blake2b(record.body, digest_size=16).digest()
    try:
        event = decode(record)
    except DecodeError:
        identity = body
    else:
        message_id = event.message_id
        if isinstance(event, Message):
            name, at = message_id, event.accepted_at
            content = blake2b(event.fingerprint().encode(), digest_size=16).digest()
        else:
            content = b""  # a user has one receipt for each state, whenever it is sent
            name, at = event.identity, event.at
        identity = blake2b(name.encode("utf-8", "replace"), digest_size=16).digest()
        accepted_at = _seconds(at, record.appended_at)
    mode, mirror, mirror_place = _copied(record, other, other_key)
    beside = blake2b(record.key.encode("utf-8", "surrogateescape"), digest_size=16)
    for header in AGREEING:
        value = record.headers.get(header)
        beside.update(b"-" if value is None else b"%d:" % len(value) + value)
    return Facts(
        side=side,
        offset=record.offset,
        place=sort_key(record.offset),
        identity=identity,
        scope=blake2b(record.key.encode("utf-8", "surrogateescape"), digest_size=8).digest(),
        body=body,
        content=content,
        beside=beside.digest(),
        mode=mode,
        mirror=mirror,
        mirror_place=mirror_place,
        accepted_at=accepted_at,
        appended_at=record.appended_at,
        message_id=message_id,
        correlation_id=_text(record, HEADER_CORRELATION_ID),
        trace_id=trace_id_of(record),
    )


def accepted_at(record: Record) -> float:
    """Return the time at which a record's message was accepted; without one, its time of append."""
    try:
        event = decode(record)
    except DecodeError:
        return record.appended_at
    at = event.accepted_at if isinstance(event, Message) else event.at
    return _seconds(at, record.appended_at)


def _copied(record: Record, other: str, other_key: SortKey) -> tuple[Mode, str | None, bytes]:
    name, _, offset = _text(record, HEADER_MIRROR_OF).partition(":")
    mirror, place = None, b""
    if name == other:
        try:
            mirror, place = offset, other_key(offset)
        except ValueError:
            mirror = None  # another program's header: it names no place
    said = _text(record, HEADER_SHADOW_MODE)
    if said in (Mode.ASYNC, Mode.SYNC, Mode.BACKFILL):
        return Mode(said), mirror, place
    # A copy without a mode promises nothing about when it was made.
    return (Mode.ASYNC if mirror else Mode.ORIGINAL), mirror, place


def _text(record: Record, header: str) -> str:
    return record.headers.get(header, b"").decode("utf-8", "replace")


def _seconds(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return otherwise
