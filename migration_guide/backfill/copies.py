"""Envelopes to append to the target: from a record of the source's log, or from a row.

From a record the copy is exact: body, key and headers are the bytes that stand in the source. From
a row the body is written anew by the same codec, from the same values, so it is byte for byte what
our ingress wrote. There are two exceptions. Another producer may have written its body differently
(spaces, omitted fields). And the row keeps only the trace id of ``traceparent``; the parent id is
made of the message id. A receipt's row keeps no trace and no offset, so the copy has neither
``traceparent`` nor ``mirrorOf``.
"""

from __future__ import annotations

import asyncpg
import msgspec

from persistence.tables.columns import message_of, receipt_of
from transport.contract import Envelope, Record
from transport.errors import DecodeError
from transport.message.envelope import (
    HEADER_MIRROR_OF,
    HEADER_MIRROR_PARTITION,
    HEADER_SHADOW_MODE,
    Message,
    decode,
    seal_message,
    seal_receipt,
)
from transport.shadow.copies import mirrored
from transport.shadow.homes import PartitionedLog, home_of
from transport.shadow.origin import Origin

__all__ = ["BACKFILL", "of_receipt", "of_record", "of_row"]

BACKFILL = "backfill"
_OURS = (HEADER_MIRROR_OF, HEADER_MIRROR_PARTITION, HEADER_SHADOW_MODE)


def of_record(record: Record, source: PartitionedLog, target: PartitionedLog) -> Envelope:
    """Return a copy, for ``target``, of a record of the log ``source``.

    Raises:
        UnicodeError: its key or a header is not text, which an envelope can't carry.
    """
    headers = {n: v.decode() for n, v in record.headers.items() if n not in _OURS}
    # A key or a header's name that is not UTF-8 was read reversibly, but can't be written.
    "".join((record.key, *headers)).encode()
    identifier, accepted_at, print_ = f"{source.name}:{record.partition}:{record.offset}", "", ""
    try:
        event = decode(record)
    except DecodeError:
        pass  # not ours: copied as it is, so that the dead letter it becomes is the same
    else:
        if isinstance(event, Message):
            identifier, accepted_at = event.message_id, event.accepted_at
            print_ = event.fingerprint()
        else:
            identifier, accepted_at = event.identity, event.at
    envelope = Envelope(
        identifier, record.partition, record.key, record.body, headers, accepted_at, print_
    )
    of = Origin(source.name, record.partition, record.offset)
    home = home_of(record, source.partitions, target.partitions)
    return mirrored(envelope, of, BACKFILL, home=home)


def of_row(row: asyncpg.Record, source_partitions: int, partitions: int) -> Envelope:
    """Return the envelope of a row of ``messages``, for a log of ``partitions`` partitions.

    The row's partition may be beyond the source's: somebody added it to the topic. Nobody compares
    such partitions, so the copy names no original.
    """
    trace = f"00-{row['trace_id']}-{row['id'].hex[-16:]}-01" if row["trace_id"] else None
    envelope = seal_message(message_of(row), partitions=partitions, traceparent=trace)
    if row["partition"] >= source_partitions:
        return _of_nothing(envelope)
    of = Origin(row["transport"], row["partition"], row["log_offset"])
    return mirrored(envelope, of, BACKFILL, home=envelope.partition)


def of_receipt(row: asyncpg.Record, partitions: int) -> Envelope:
    """Return the envelope of a row of ``message_receipts``."""
    return _of_nothing(seal_receipt(receipt_of(row), partitions=partitions, traceparent=None))


def _of_nothing(envelope: Envelope) -> Envelope:
    """Return ``envelope`` as a copy that names no original."""
    headers = {**envelope.headers, HEADER_SHADOW_MODE: BACKFILL}
    return msgspec.structs.replace(envelope, headers=headers)
