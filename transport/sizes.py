"""The sizes of records, and the limit of bytes of one read."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import READ_BYTES, Record

__all__ = ["of_one_read", "size_of"]


def size_of(record: Record) -> int:
    """Return a record's bytes, including its key and headers: foreign ones may be megabytes."""
    return len(record.body) + len(record.key) + sum(map(len, record.headers.values()))


def of_one_read(records: Sequence[Record], *, last: bool = False) -> list[Record]:
    """Return the first of ``records`` (or the ``last``), up to ``READ_BYTES``.

    The record that reaches the limit is included, so there is at least one.
    """
    kept: list[Record] = []
    left = READ_BYTES
    for record in reversed(records) if last else records:
        kept.append(record)
        left -= size_of(record)
        if left <= 0:
            break
    return kept[::-1] if last else kept
