"""What one would write by hand to move messages from Redis to PostgreSQL, and write well.

Read 500, decode, one ``unnest`` insert, acknowledge; partition by partition, over redis-py with
hiredis and asyncpg. It knows no ownership, no fencing, no outage, no poison, no receipts, no
metrics. It ends when nothing is left.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import uvloop
from redis.asyncio import Redis

from transport.envelope import Message, fingerprint

_BATCH = 500
_GROUP = "hand-written"
_INSERT = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset)
SELECT id, key, correlation_id, conversation_id, sender_id, client_message_id,
    recipient_ids::text[], content, content_type, fingerprint, accepted_at, 'redis', $1, log_offset
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::text[])
    AS batch (id, key, correlation_id, conversation_id, sender_id, client_message_id,
        recipient_ids, content, content_type, fingerprint, accepted_at, log_offset)
ON CONFLICT DO NOTHING
"""
_decode = msgspec.json.Decoder(Message).decode


async def main() -> None:
    """Move everything."""
    redis = Redis(
        host=os.environ["REDIS_HOST"],
        port=int(os.environ["REDIS_PORT"]),
        db=int(os.environ.get("REDIS_STREAM_DB", "1")),
        protocol=2,
    )
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    insert = await connection.prepare(_INSERT)
    streams = [f"msg:stream:{p}" for p in range(int(os.environ.get("STREAM_PARTITIONS", "16")))]
    for stream in streams:
        await redis.xgroup_create(stream, _GROUP, "0", mkstream=True)
    moved = True
    while moved:
        moved = False
        for partition, stream in enumerate(streams):
            reply: Any = await redis.xreadgroup(_GROUP, "one", {stream: ">"}, count=_BATCH)
            if reply:
                entries = reply[0][1]
                await insert.fetch(partition, *_columns(entries))
                await redis.xack(stream, _GROUP, *(entry_id for entry_id, _ in entries))
                moved = True
    await connection.close()
    await redis.aclose()


def _columns(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> list[list[object]]:
    rows = []
    for entry_id, fields in entries:
        m = _decode(fields[b"body"])
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
                fingerprint(m.content, m.content_type, m.recipient_ids),
                datetime.fromisoformat(m.accepted_at),
                entry_id.decode(),
            )
        )
    return [list(column) for column in zip(*rows, strict=True)]


def _array(values: tuple[str, ...]) -> str:
    return (
        "{"
        + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
        + "}"
    )


if __name__ == "__main__":
    uvloop.run(main())
