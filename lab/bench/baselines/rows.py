"""Decodes records into the columns that the baseline workers insert with one ``unnest``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from transport.message.envelope import Message

__all__ = ["INSERT", "columns", "message_columns"]

INSERT = """
INSERT INTO messages (partition, log_offset, id, idempotency_key, correlation_id, conversation_id,
    sender_id, client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at,
    transport)
SELECT partition, log_offset, id, key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids::text[], content, content_type, fingerprint, accepted_at, $14
FROM unnest($1::int[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[])
    AS batch (partition, log_offset, id, key, correlation_id, conversation_id, sender_id,
        client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at)
ON CONFLICT DO NOTHING
"""
"""Parameters: $1 to $13 are the columns, $14 is the log's name."""

_decode = msgspec.json.Decoder(Message).decode


def columns(records: Iterable[tuple[int, str, bytes]]) -> list[list[object]]:
    """Return the columns for records of the form (partition, offset, body)."""
    return message_columns((place, offset, _decode(body)) for place, offset, body in records)


def message_columns(messages: Iterable[tuple[int, str, Message]]) -> list[list[object]]:
    """Return the columns for messages of the form (partition, offset, message)."""
    rows = []
    for partition, offset, m in messages:
        rows.append(
            (
                partition,
                offset,
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
            )
        )
    return [list(column) for column in zip(*rows, strict=True)]


def _array(values: tuple[str, ...]) -> str:
    return (
        "{"
        + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
        + "}"
    )
