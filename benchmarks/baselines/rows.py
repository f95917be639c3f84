"""The rows that the hand-written loops insert: decoded, and as columns for one ``unnest``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from transport.envelope import Message

__all__ = ["INSERT", "columns"]

INSERT = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset)
SELECT id, key, correlation_id, conversation_id, sender_id, client_message_id,
    recipient_ids::text[], content, content_type, fingerprint, accepted_at, $14, $1, log_offset
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::text[])
    AS batch (id, key, correlation_id, conversation_id, sender_id, client_message_id,
        recipient_ids, content, content_type, fingerprint, accepted_at, log_offset)
ON CONFLICT DO NOTHING
"""
"""$1 partition, $2 to $13 the columns, $14 the log's name."""

_decode = msgspec.json.Decoder(Message).decode


def columns(records: Iterable[tuple[str, bytes]]) -> list[list[object]]:
    """Return the columns of records given as offset and body."""
    rows = []
    for offset, body in records:
        m = _decode(body)
        rows.append(
            (
                m.message_id,
                m.idempotency_key,
                m.correlation_id,
                m.conversation_id,
                m.sender_id,
                m.client_message_id,
                _array(m.recipient_ids),
                m.content,
                m.content_type,
                m.fingerprint(),
                datetime.fromisoformat(m.accepted_at),
                offset,
            )
        )
    return [list(column) for column in zip(*rows, strict=True)]


def _array(values: tuple[str, ...]) -> str:
    return (
        "{"
        + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
        + "}"
    )
