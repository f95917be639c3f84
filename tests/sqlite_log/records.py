"""Records in the table ``records``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence

import msgspec

from crossfade.transport import Record, Topic, of_one_read

__all__ = ["append", "select"]

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.Decoder(dict[str, bytes]).decode

_APPEND = (
    "INSERT INTO records SELECT ?1, ?2, coalesce(max(offset) + 1, 0), ?3, ?4, ?5, ?6 FROM records"
    " WHERE topic = ?1 AND partition = ?2 RETURNING offset"
)
_SELECT = (
    "SELECT offset, key, body, headers, appended_at FROM records"
    " WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ? ORDER BY offset "
)
_LARGEST = 2**63 - 1


def append(
    db: sqlite3.Connection,
    topic: Topic,
    partition: int,
    key: str,
    body: bytes,
    headers: Mapping[str, bytes],
) -> str:
    """Append one record; return its offset. Offsets count from 0."""
    values = (topic.value, partition, key, body, _pack(dict(headers)), time.time())
    (offset,) = db.execute(_APPEND, values).fetchone()
    return str(offset)


def select(
    db: sqlite3.Connection,
    topic: Topic,
    partition: int,
    limit: int,
    *,
    first: int = 0,
    before: int = _LARGEST,
    last: bool = False,
) -> Sequence[Record]:
    """Return up to ``limit`` records from ``first`` on, or the ``last`` ones before an offset."""
    statement = _SELECT + ("DESC LIMIT ?" if last else "LIMIT ?")
    rows = db.execute(statement, (topic.value, partition, first, before, limit)).fetchall()
    records = [
        Record(topic, partition, str(offset), key, body, _unpack(headers), at)
        for offset, key, body, headers, at in (reversed(rows) if last else rows)
    ]
    return of_one_read(records, last=last)
