"""How many bytes records have, and as many of them as one answer may hold."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import READ_BYTES, Record

__all__ = ["of_one_read", "size_of"]


def size_of(record: Record) -> int:
    """Return a record's bytes: other producers' keys and headers may be megabytes."""
    return len(record.body) + len(record.key) + sum(map(len, record.headers.values()))


def of_one_read(records: Sequence[Record], *, last: bool = False) -> list[Record]:
    """Return the first of ``records`` (or the ``last``) that come to ``READ_BYTES``.

    With the record that passes it, so there is one at least.
    """
    kept: list[Record] = []
    left = READ_BYTES
    for record in reversed(records) if last else records:
        kept.append(record)
        left -= size_of(record)
        if left <= 0:
            break
    return kept[::-1] if last else kept
