"""Dead letters, compressed or cut so that they fit into their topic.

A record may be far larger than its batch: a few kilobytes, compressed by a producer, may hold
gigabytes. A letter that is too large is compressed. If it is still too large, it is *cut*: it keeps
the beginning of the value, and as many headers as fit, and describes the whole record in the header
``HEADER_CUT`` and in its error. The record itself can be read for as long as its topic keeps it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256

import msgspec

from transport.contract import DeadLetter, Outcome, Topic
from transport.errors import TransportError, TransportUnavailable
from transport.kafka.appender import Appender
from transport.kafka.client.damaged import HEADER_BATCH
from transport.kafka.producer.packed import Packed, pack
from transport.kafka.records import Headers, Outgoing, outgoing_dead_letter, raw_name
from transport.message.dead_letters import HEADER_CUT

__all__ = ["KafkaDeadLetters", "cut"]

log = logging.getLogger(__name__)

_LEAST_BYTES = 16 * 1024  # no letter is cut smaller: its own headers need room
_FIELD = 10  # the most bytes for the lengths of a header's name and value
_OVERHEAD = 256  # bytes of a batch and a record, and of the header HEADER_CUT


class KafkaDeadLetters:
    """Appends letters to the dead-letter topic, in batches of at most ``most`` bytes.

    ``names`` has Kafka's name of each topic.
    """

    def __init__(self, appender: Appender, names: Mapping[Topic, str], *, most: int) -> None:
        self._appender = appender
        self._names = names
        self._most = most

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Append each letter.

        Raises:
            TransportUnavailable: a letter was not appended, or it is unknown whether it was.
        """
        to = self._names[Topic.DEAD_LETTERS]
        plain: list[tuple[int, Outgoing]] = []
        for letter in map(_with_batch_error, letters):
            topic = self._names[letter.record.topic]
            whole = outgoing_dead_letter(letter, topic)
            if whole.size <= self._most and whole.is_text:
                plain.append((0, whole))
                continue
            # One at a time: each may be megabytes.
            packed = await asyncio.to_thread(_packed, letter, topic, whole, self._most)
            outcome = await self._appender.append_alone(to, 0, packed)
            if type(outcome) is TransportError and packed.codec:
                # The broker may store it uncompressed (compression.type), and counts those bytes.
                packed = await asyncio.to_thread(_packed_cut, letter, topic, whole, self._most)
                outcome = await self._appender.append_alone(to, 0, packed)
            self._require(outcome, packed.size)
        for (_, whole), outcome in zip(
            plain, await self._appender.append(to, plain) if plain else (), strict=True
        ):
            self._require(outcome, whole.size)

    def _require(self, outcome: Outcome, size: int) -> None:
        if isinstance(outcome, TransportUnavailable):
            raise outcome
        if not isinstance(outcome, TransportError):
            return
        if type(outcome) is TransportError and size > _LEAST_BYTES:
            # Somebody lowered the topic's limit. Cut smaller: the caller tries again.
            self._most = min(self._most, max(size // 2, _LEAST_BYTES))
            log.warning(
                "The dead-letter topic refuses a large record: will cut it smaller; restore the "
                "topic's max.message.bytes",
                extra={"error": str(outcome), "bytes": self._most},
            )
        raise TransportUnavailable(str(outcome)) from outcome


def _with_batch_error(letter: DeadLetter) -> DeadLetter:
    """Say in the error of a letter that it holds an unreadable batch, if it does."""
    header = letter.record.headers.get(HEADER_BATCH)
    if header is None:
        return letter
    what = header.decode("utf-8", "replace")
    why = "whose checksum is wrong" if _is_damaged(header) else "that can't be unpacked"
    error = f"a record batch {why}, kept as it stands ({what})"
    return msgspec.structs.replace(letter, error=error)


def _is_damaged(header: bytes) -> bool:
    try:
        found = msgspec.json.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError):  # other programs may write such a header
        return False
    return isinstance(found, dict) and found.get("damaged") is True


def _packed(letter: DeadLetter, topic: str, whole: Outgoing, most: int) -> Packed:
    """Return ``whole``, a letter of ``topic``, as a batch of at most ``most`` bytes."""
    return pack(whole, most=most) or _packed_cut(letter, topic, whole, most)


def _packed_cut(letter: DeadLetter, topic: str, whole: Outgoing, most: int) -> Packed:
    """Return the beginning of ``whole`` as a batch of at most ``most`` bytes."""
    packed = pack(cut(letter, topic, whole, most=most), most=most)
    assert packed is not None, "what was cut to a size has that size"
    return packed


def cut(letter: DeadLetter, topic: str, whole: Outgoing, *, most: int) -> Outgoing:
    """Return ``whole``, a letter of ``topic``, as a record of at most ``most`` bytes.

    The key gets a quarter at most. The record's own headers get a half: the first one that does not
    fit, and all after it, are left out. The value gets the rest.
    """
    record = letter.record
    size = len(whole.key or b"") + len(whole.value or b"")
    size += sum(len(raw_name(name)) + len(value or b"") for name, value in whole.headers)
    error = (
        f"{letter.error[:1000]} (cut: {size} bytes are too many for the dead-letter topic; the "
        f"whole record is at {topic}-{record.partition}, offset {record.offset})"
    )
    bare = msgspec.structs.replace(record, headers={}, body=b"", key="")
    headers = outgoing_dead_letter(
        msgspec.structs.replace(letter, record=bare, error=error), topic
    ).headers
    ours = {name for name, _ in headers}
    theirs = [pair for pair in whole.headers if pair[0] not in ours]
    room = most - _OVERHEAD - _size(headers)
    key = whole.key and whole.key[: most // 4]
    room -= len(key or b"")
    kept, left = [], min(room, most // 2)
    for pair in theirs:
        left -= _size([pair])
        if left < 0:
            break
        kept.append(pair)
    room -= _size(kept)
    note = msgspec.json.encode(
        {
            "keyBytes": len(whole.key or b""),
            "valueBytes": len(whole.value or b""),
            "valueSha256": sha256(whole.value or b"").hexdigest(),
            "headers": len(theirs),
        }
    )
    value = whole.value and whole.value[: max(0, room)]
    return Outgoing(key, value, [*kept, *headers, (HEADER_CUT, note)])


def _size(headers: Headers) -> int:
    return sum(_FIELD + len(raw_name(name)) + len(value or b"") for name, value in headers)
