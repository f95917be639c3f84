"""The rows that the hand-written loops insert: decoded, and as columns for one ``unnest``."""

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
"""$1 to $13 the columns, $14 the log's name."""

_decode = msgspec.json.Decoder(Message).decode


def columns(records: Iterable[tuple[int, str, bytes]]) -> list[list[object]]:
    """Return the columns of records given as partition, offset and body."""
    return message_columns((place, offset, _decode(body)) for place, offset, body in records)


def message_columns(messages: Iterable[tuple[int, str, Message]]) -> list[list[object]]:
    """Return the columns of messages given with their partition and offset."""
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
