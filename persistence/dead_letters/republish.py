"""Turn a dead letter back into an envelope: its record, and its number of redrives."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from persistence.dead_letters.rows import HEADER_REDRIVES
from transport.contract import Appended, Envelope, Record, Remembered, Topic, Transport
from transport.errors import AppendUnknown, DecodeError, TransportUnavailable
from transport.message.dead_letters import HEADER_CUT
from transport.message.envelope import (
    HEADER_MIRROR_OF,
    HEADER_MIRROR_PARTITION,
    HEADER_SHADOW_MODE,
    Message,
    decode,
)
from transport.message.identity import partition_of
from transport.message.partitioner import partition_for

__all__ = ["RedriveAttempt", "envelope_of", "republish"]

_CUT = HEADER_CUT.encode()
_OF_A_COPY = tuple(
    header.encode() for header in (HEADER_MIRROR_OF, HEADER_MIRROR_PARTITION, HEADER_SHADOW_MODE)
)


class RedriveAttempt(msgspec.Struct):
    """Ids of letters by outcome: appended, to be tried again soon, or not appendable."""

    appended: list[int]
    waiting: list[int]
    failed: list[int]
    error: str | None


async def republish(transport: Transport, letters: Sequence[asyncpg.Record]) -> RedriveAttempt:
    """Append ``letters`` (rows of ``dead_letters``) in their order.

    They are appended even if the log remembers their keys: the first record did not become a row.
    """
    attempt = RedriveAttempt([], [], [], None)
    whole = []
    for letter in letters:
        if _CUT in letter["header_names"]:
            attempt.failed.append(letter["id"])
            attempt.error = f"letter {letter['id']} was cut and is not the whole record"
        else:
            whole.append(letter)
    letters = whole
    envelopes = [envelope_of(letter, transport.partitions) for letter in letters]
    outcomes = await transport.publish(envelopes, remember=False)
    for letter, outcome in zip(letters, outcomes, strict=True):
        if isinstance(outcome, Appended | Remembered):
            attempt.appended.append(letter["id"])
            continue
        passing = isinstance(outcome, TransportUnavailable | AppendUnknown)
        (attempt.waiting if passing else attempt.failed).append(letter["id"])
        attempt.error = f"{type(outcome).__name__}: {outcome}"
    return attempt


def envelope_of(letter: asyncpg.Record, partitions: int) -> Envelope:
    """Return the envelope of a letter; its body is the record's, byte for byte.

    The partition is computed again: the primary log may have another number of partitions by now.
    Headers that mark a copy are left out: the new record is an original.
    """
    headers = {
        _text(name): _text(value)
        for name, value in zip(letter["header_names"], letter["header_values"], strict=True)
        if name not in _OF_A_COPY
    }
    headers[HEADER_REDRIVES] = str(letter["redrives"] + 1)
    message_id = letter["message_id"]
    return Envelope(
        message_id=str(message_id) if message_id else f"dead-letter-{letter['id']}",
        partition=_partition(letter, partitions),
        key=letter["record_key"].decode("utf-8", "backslashreplace"),
        body=letter["body"],
        headers=headers,
    )


def _partition(letter: asyncpg.Record, partitions: int) -> int:
    try:
        event = decode(Record(Topic.MESSAGES, 0, "", "", letter["body"], {}, 0.0))
    except DecodeError:
        return max(int(letter["source_partition"]), 0) % partitions
    if isinstance(event, Message):
        return partition_for(event.conversation_id, partitions)
    if letter["message_id"]:
        return partition_of(letter["message_id"], partitions)
    return max(int(letter["source_partition"]), 0) % partitions


def _text(value: bytes) -> str:
    # Our headers are text on every log; odd bytes of other programs' headers stay readable.
    return value.decode("utf-8", "backslashreplace")
