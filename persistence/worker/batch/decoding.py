"""Decode records into events with their positions; records that can't be decoded are set apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otel.tracing.context import checked, sampled_trace_id
from persistence.store.batch import PositionedEvent
from transport.contract import Record
from transport.errors import DecodeError
from transport.message.envelope import HEADER_TRACEPARENT, decode

__all__ = ["decode_all", "trace_id_of"]


def decode_all(
    records: Sequence[Record], transport: str, begun: Mapping[str, str] | None = None
) -> tuple[list[PositionedEvent], list[int], list[tuple[int, DecodeError]]]:
    """Return the events, the index of each one's record, and the records that can't be decoded.

    ``begun`` has the trace ids, by offset, of records that came without one.
    """
    positioned: list[PositionedEvent] = []
    indexes: list[int] = []
    failed: list[tuple[int, DecodeError]] = []
    for index, record in enumerate(records):
        try:
            event = decode(record)
        except DecodeError as error:
            failed.append((index, error))
            continue
        positioned.append(
            PositionedEvent(
                event,
                transport,
                record.partition,
                record.offset,
                trace_id_of(record) or (begun.get(record.offset) if begun else None),
                size=len(record.body),
                fingerprint=record.fingerprint,
            )
        )
        indexes.append(index)
    return positioned, indexes, failed


def trace_id_of(record: Record) -> str | None:
    """Return the trace id of the record's ``traceparent``, if that trace is sampled."""
    header = record.headers.get(HEADER_TRACEPARENT)
    return sampled_trace_id(checked(header)) if header else None
