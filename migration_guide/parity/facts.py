"""Facts of a record for a comparison: digests and a few ids, never the body."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b

import msgspec

from migration_guide.parity.result import ParityResult
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
from transport.message.partitioner import KNOWN_CONVERSATIONS

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


_SAID = {mode.value.encode(): mode for mode in (Mode.ASYNC, Mode.SYNC, Mode.BACKFILL)}


class Facts(msgspec.Struct, gc=False):
    """The facts of one record. ``side``: 0 in the primary, 1 in the shadow.

    ``place`` sorts as the log does. ``identity`` is a digest of the message's name, the same in
    every log; ``scope`` is a digest of the key (the conversation), within which order counts.
    ``body`` is a hash of the body, ``beside`` of the key and of the headers in ``AGREEING``; both
    have 64 bits and mean something in this process only. ``content`` is a digest of what the sender
    sent, the same for each of its retries. ``name`` is the id under which a log remembers it:
    the message's, or the receipt's own; empty if it is neither. ``mirror`` is the offset, in the
    other log, of the record that this is a copy of, and ``mirror_place`` its place. ``traceparent``
    is the header, as it came. Times are seconds since the epoch.

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
    body: int
    content: bytes
    beside: int
    mode: Mode
    mirror: str | None
    mirror_place: bytes
    accepted_at: float
    appended_at: float
    message_id: str
    name: str
    correlation_id: str
    traceparent: bytes | None
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
    headers = record.headers
    message_id, name = _text(record, HEADER_MESSAGE_ID), ""
    accepted_at = record.appended_at
    try:
        event = decode(record)
    except DecodeError:
        identity = content = blake2b(record.body, digest_size=16).digest()
    else:
        message_id = event.message_id
        if isinstance(event, Message):
            name, at = message_id, event.accepted_at
            content = event.fingerprint().encode()
        else:
            content = b""  # a user has one receipt for each state, whenever it is sent
            name, at = event.identity, event.at
        identity = blake2b(name.encode("utf-8", "replace"), digest_size=16).digest()
        accepted_at = _seconds(at, record.appended_at)
    mode, mirror, mirror_place = _copied(record, other, other_key)
    return Facts(
        side,
        record.offset,
        sort_key(record.offset),
        identity,
        _scope(record.key),
        hash(record.body),
        content,
        hash((record.key, *map(headers.get, AGREEING))),
        mode,
        mirror,
        mirror_place,
        accepted_at,
        record.appended_at,
        message_id,
        name,
        _text(record, HEADER_CORRELATION_ID),
        headers.get(HEADER_TRACEPARENT),
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
    mirror, place = None, b""
    if HEADER_MIRROR_OF in record.headers:
        name, _, offset = _text(record, HEADER_MIRROR_OF).partition(":")
        if name == other:
            try:
                mirror, place = offset, other_key(offset)
            except ValueError:
                mirror = None  # another program's header: it names no place
    said = record.headers.get(HEADER_SHADOW_MODE)
    if said in _SAID:
        return _SAID[said], mirror, place
    # A copy without a mode promises nothing about when it was made.
    return (Mode.ASYNC if mirror else Mode.ORIGINAL), mirror, place


@lru_cache(maxsize=KNOWN_CONVERSATIONS)
def _scope(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _text(record: Record, header: str) -> str:
    return record.headers.get(header, b"").decode("utf-8", "replace")


def _seconds(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return otherwise
