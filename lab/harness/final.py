"""The final state of a run: rows in reading order, receipts, dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from lab.harness.served_content import served_contents
from transport.contract import Reason

__all__ = ["Final", "FinalRow", "Letter", "gather"]


class FinalRow(msgspec.Struct, kw_only=True):
    """The columns of a row of ``messages`` that the checker compares."""

    message_id: str
    key: str
    conversation: str
    content: str
    """The name of its content (``content_name``), computed from the bytes that were read."""
    seq: int = 0
    """Ascends in the reading order of its conversation."""
    transport: str = ""
    partition: int = 0
    offset: str = ""
    inserted_at: float = 0.0
    """When its insert began, by PostgreSQL's clock."""
    committed_at: float | None = None
    """When it was committed; ``None`` unless ``track_commit_timestamp`` is on."""


class Letter(msgspec.Struct, kw_only=True):
    """A dead letter. ``message_id`` is from its header; ``body`` is the record's body."""

    message_id: str
    reason: Reason
    body: bytes
    error: str = ""
    attempts: int = 1


class Final(msgspec.Struct, kw_only=True):
    """The state to judge. ``rows`` are in reading order: by conversation, then ``seq``."""

    rows: Sequence[FinalRow] = ()
    receipts: Sequence[str] = ()
    """Each ``messageId/state/user``."""
    letters: Sequence[Letter] = ()
    pages: Mapping[str, Sequence[str]] = {}
    """Message ids by conversation, in the order in which a reader of pages saw them."""


async def gather(
    database_url: str,
    api_url: str | None = None,
    *,
    conversations: Sequence[str] | None = None,
) -> Final:
    """Read the final state: rows from PostgreSQL, and large contents over HTTP from an ingress.

    Args:
        database_url: The service's database.
        api_url: An ingress. Without one, large contents are not read, and count as altered.
        conversations: Reads only these conversations; ``None`` reads all.
    """
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT id, idempotency_key, conversation_id, content, payload_key, seq, transport,"
            " partition, log_offset, extract(epoch FROM created_at)::float8 AS inserted_at,"
            " CASE WHEN current_setting('track_commit_timestamp')::bool"
            " THEN extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 END AS committed_at"
            " FROM messages WHERE $1::text[] IS NULL OR conversation_id = ANY($1)"
            " ORDER BY conversation_id, seq",
            conversations,
        )
        receipts = await connection.fetch(
            "SELECT message_id, state, user_id FROM message_receipts WHERE $1::text[] IS NULL"
            " OR message_id IN (SELECT id FROM messages WHERE conversation_id = ANY($1))",
            conversations,
        )
        letters = await connection.fetch(
            "SELECT header_names, header_values, reason, body, error, attempts FROM dead_letters"
            " WHERE $1::text[] IS NULL OR conversation_id = ANY($1)",
            conversations,
        )
    finally:
        await connection.close()
    large = [str(row["id"]) for row in rows if row["payload_key"] is not None]
    served = await served_contents(api_url, large) if api_url else dict.fromkeys(large, "not read")
    return Final(
        rows=[
            FinalRow(
                message_id=str(row["id"]),
                key=row["idempotency_key"],
                conversation=row["conversation_id"],
                content=served.get(str(row["id"]), row["content"]),
                seq=row["seq"],
                transport=row["transport"],
                partition=row["partition"],
                offset=row["log_offset"],
                inserted_at=row["inserted_at"],
                committed_at=row["committed_at"],
            )
            for row in rows
        ],
        receipts=[f"{r['message_id']}/{r['state']}/{r['user_id']}" for r in receipts],
        letters=[_letter(record) for record in letters],
    )


def _letter(record: asyncpg.Record) -> Letter:
    headers = dict(zip(record["header_names"], record["header_values"], strict=True))
    return Letter(
        message_id=headers.get(b"messageId", b"").decode(errors="replace"),
        reason=Reason(record["reason"]),
        body=record["body"],
        error=record["error"],
        attempts=record["attempts"],
    )
