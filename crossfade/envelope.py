"""The envelope of a record: messages and receipts, their ids and their partition.

Use it in programs that read a log (``decode``) or write to it beside the service
(``seal_message``). ``docs/records.md`` describes the format.
"""

from __future__ import annotations

from transport.message.envelope import (
    CONTENT_TYPE,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_MIRROR_OF,
    HEADER_MIRROR_PARTITION,
    HEADER_REDRIVES,
    HEADER_SHADOW_MODE,
    HEADER_TRACEPARENT,
    HEADER_TRACESTATE,
    Event,
    Message,
    Receipt,
    decode,
    seal_message,
    seal_receipt,
)
from transport.message.identity import idempotency_key, message_id, partition_of
from transport.message.partitioner import partition_for

__all__ = [
    "CONTENT_TYPE",
    "HEADER_CONTENT_TYPE",
    "HEADER_CORRELATION_ID",
    "HEADER_MESSAGE_ID",
    "HEADER_MIRROR_OF",
    "HEADER_MIRROR_PARTITION",
    "HEADER_REDRIVES",
    "HEADER_SHADOW_MODE",
    "HEADER_TRACEPARENT",
    "HEADER_TRACESTATE",
    "Event",
    "Message",
    "Receipt",
    "decode",
    "idempotency_key",
    "message_id",
    "partition_for",
    "partition_of",
    "seal_message",
    "seal_receipt",
]
