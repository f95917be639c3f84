"""Records made of stream entries, without decoding anything that a foreign producer may break."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import Record, Topic
from transport.message.envelope import (
    CONTENT_TYPE,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_TRACEPARENT,
)

__all__ = [
    "FIELD_APPENDED_AT",
    "FIELD_BODY",
    "FIELD_KEY",
    "OUR_FIELDS",
    "OUR_HEADERS",
    "OUR_TRACED_HEADERS",
    "Entry",
    "Verbatim",
    "is_later",
    "records",
    "sort_key",
    "time_in",
]

FIELD_APPENDED_AT = b"appendedAt"
"""The first field of each entry that Crossfade appended: the time of the append, in ms."""
FIELD_KEY = "key"
FIELD_BODY = "body"
OUR_HEADERS = (HEADER_MESSAGE_ID, HEADER_CORRELATION_ID, HEADER_CONTENT_TYPE)
"""The headers of a message without a trace, in their order."""
OUR_TRACED_HEADERS = (*OUR_HEADERS, HEADER_TRACEPARENT)
"""The headers of a message with a trace, sampled or not, in their order."""
OUR_FIELDS = (FIELD_KEY, FIELD_BODY, *OUR_HEADERS, CONTENT_TYPE, HEADER_TRACEPARENT)
"""Field names, and our content type, that a call of ``append`` gets once for all its messages."""

_KEY, _BODY = b"key", b"body"
_KEY_AND_BODY = 4  # the number of values of key and body, with their names
Entry = tuple[bytes, Sequence[bytes]]
"""An entry id and its fields: field, value, field, value ..., as Redis returns them."""

# A cache: field names repeat from record to record. Foreign names may be any bytes, and are decoded
# so that they can be encoded again.
_names: dict[bytes, str] = {}
_NAMES_KEPT = 256


class Verbatim(dict[str, bytes]):
    """Headers of a foreign entry that a ``Record`` can't hold whole, with the original fields.

    Redis allows entries that we never write: without a key or a body, or with a field twice (the
    last one counts, as in most clients). A dead letter of such an entry keeps the same fields.
    """

    fields: Sequence[bytes]


def _name(field: bytes) -> str:
    name = field.decode("utf-8", "surrogateescape")
    if len(_names) < _NAMES_KEPT:
        _names[field] = name
    return name


def records(topic: Topic, partition: int, entries: Sequence[Entry]) -> list[Record]:
    """Return one record per entry, in order."""
    made = []
    for entry_id, given in entries:
        offset, fields = entry_id.decode(), given
        if given and given[0] == FIELD_APPENDED_AT and given[1].isdigit():
            appended_at, fields = int(given[1]) / 1000, given[2:]
        else:  # another program's
            appended_at = time_in(offset)
        headers: dict[str, bytes] = {}
        key = body = b""
        pairs = iter(fields)
        for field, value in zip(pairs, pairs, strict=True):
            if field == _BODY:
                body = value
            elif field == _KEY:
                key = value
            else:
                headers[_names.get(field) or _name(field)] = value
        if 2 * len(headers) + _KEY_AND_BODY != len(fields):
            headers = _verbatim(headers, fields)
        made.append(
            Record(
                topic,
                partition,
                offset,
                key.decode("utf-8", "surrogateescape"),
                body,
                headers,
                appended_at,
            )
        )
    return made


def _verbatim(headers: dict[str, bytes], fields: Sequence[bytes]) -> Verbatim:
    kept = Verbatim(headers)
    kept.fields = fields
    return kept


def time_in(entry_id: str) -> float:
    """Return the time that the id of another program's record begins with, in seconds."""
    return int(entry_id.partition("-")[0]) / 1000


def sort_key(offset: str) -> tuple[int, int]:
    """Return ``(ms, sequence)``, which orders entry ids."""
    ms, _, sequence = offset.partition("-")
    return int(ms), int(sequence or 0)


def is_later(one: str, other: str) -> bool:
    """Return whether the entry id ``one`` stands after ``other``."""
    if len(one) == len(other):
        return one > other  # texts of the same length sort as their numbers do
    return sort_key(one) > sort_key(other)
