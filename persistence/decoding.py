"""Records into events with their place, and those that are none set apart with their reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

from persistence.placed import Placed
from transport.contract import Record
from transport.envelope import HEADER_TRACEPARENT, decode
from transport.errors import DecodeError

__all__ = ["decode_all", "trace_id_of"]

# W3C Trace Context, section 3.2: version, trace id (not all zeros), parent id, flags.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def decode_all(
    records: Sequence[Record], transport: str
) -> tuple[list[Placed], list[int], list[tuple[int, DecodeError]]]:
    """Return the events, the index of each one's record, and what could not be decoded."""
    placed: list[Placed] = []
    indexes: list[int] = []
    failed: list[tuple[int, DecodeError]] = []
    for index, record in enumerate(records):
        try:
            event = decode(record)
        except DecodeError as error:
            failed.append((index, error))
            continue
        placed.append(
            Placed(
                event,
                transport,
                record.partition,
                record.offset,
                trace_id_of(record),
                record.delivery_count or 1,
            )
        )
        indexes.append(index)
    return placed, indexes, failed


def trace_id_of(record: Record) -> str | None:
    """Return the trace id in the record's ``traceparent``, ``None`` without a valid one."""
    header = record.headers.get(HEADER_TRACEPARENT)
    if header is None:
        return None
    match = _TRACEPARENT.match(header)
    return match[1].decode() if match else None
