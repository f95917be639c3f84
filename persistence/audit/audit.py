"""Find errors in the tables: the guide's third rollback scenario, made exact.

An audit only reads. ``persistence.audit.repair`` changes things, and only what an audit reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import asyncpg

from persistence.audit.report import AuditReport, AuditRow, Differing, Duplicate, Unaccounted
from persistence.audit.scan import scan
from persistence.database.pool import Connection, Pool, using
from persistence.store.row_losses import row_losses
from persistence.timestamps import rfc3339
from transport.contract import Transport
from transport.message.identity import message_id

__all__ = [
    "CONSTRAINTS",
    "LONGEST_SECONDS",
    "audit",
    "duplicates",
    "missing_constraints",
    "unhurried",
]

CONSTRAINTS = {
    "messages_pkey": "messages ADD CONSTRAINT messages_pkey PRIMARY KEY (id)",
    "messages_idempotency_key_key": (
        "messages ADD CONSTRAINT messages_idempotency_key_key UNIQUE (idempotency_key)"
    ),
    "message_receipts_pkey": (
        "message_receipts ADD CONSTRAINT message_receipts_pkey "
        "PRIMARY KEY (message_id, user_id, state)"
    ),
    "message_receipts_message_id_fkey": (
        "message_receipts ADD CONSTRAINT message_receipts_message_id_fkey "
        "FOREIGN KEY (message_id) REFERENCES messages (id) ON DELETE CASCADE"
    ),
}
"""The constraints that keep messages and receipts single, in the order to restore them."""

LONGEST_SECONDS = 24 * 3600.0
"""The longest time of one statement of an audit: it reads whole tables."""

# A missing or broken index must not hide a duplicate, so only the table itself is read.
_UNHURRIED = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL enable_bitmapscan = off;
"""

# The planner trusts a unique constraint: a join or a grouping on the bare column stops at the first
# row it meets. It knows nothing of an expression.
_DOUBLED_KEYS = """
SELECT idempotency_key || '' AS key FROM messages GROUP BY 1 HAVING count(*) > 1
"""

_COPIES = """
SELECT idempotency_key, conversation_id, seq, id, created_at FROM messages
WHERE idempotency_key || '' = ANY($1::text[])
ORDER BY idempotency_key || '', created_at, seq
"""

_PRESENT = """
SELECT conname FROM pg_constraint LEFT JOIN pg_index ON conindid = indexrelid
WHERE conrelid IN ('messages'::regclass, 'message_receipts'::regclass)
    AND convalidated AND coalesce(indisvalid, true)
"""


async def audit(pool: Pool, transport: Transport) -> AuditReport:
    """Look for duplicates by key, and compare the rows with the log, changing nothing.

    It may run beside the service: records after the positions are left out.

    Raises:
        Outage: PostgreSQL can't answer now.
        TransportUnavailable: the log can't be read.
    """
    async with (
        using(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await unhurried(connection)
        rows = await connection.fetchval("SELECT count(*) FROM messages", timeout=LONGEST_SECONDS)
        constraints = await missing_constraints(connection)
        doubled = await duplicates(connection)
        losses = await row_losses(connection)
    found = await scan(pool, transport)
    whats = [finding.what for finding in found.findings]
    return AuditReport(
        transport=transport.name,
        rows=rows,
        ranges=found.ranges,
        missing_constraints=constraints,
        duplicates=doubled,
        unaccounted=[what for what in whats if isinstance(what, Unaccounted)],
        differing=[what for what in whats if isinstance(what, Differing)],
        disorders=found.disorders,
        own_ids=found.own_ids,
        loss=found.loss,
        rows_gone=next((it for it in losses if it.log == transport.name and it.are_gone), None),
    )


async def unhurried(connection: Connection) -> None:
    """Lift this transaction's time limit, and keep the planner from using indexes."""
    await connection.execute(_UNHURRIED)


async def missing_constraints(connection: Connection) -> list[str]:
    """Return those of ``CONSTRAINTS`` that the database lacks."""
    present = {row["conname"] for row in await connection.fetch(_PRESENT)}
    return [name for name in CONSTRAINTS if name not in present]


async def duplicates(connection: Connection) -> list[Duplicate]:
    """Return every key with more than one row; the one with the earliest ``created_at`` stays."""
    doubled = await connection.fetch(_DOUBLED_KEYS, timeout=LONGEST_SECONDS)
    keys = [row["key"] for row in doubled]
    rows = await connection.fetch(_COPIES, keys, timeout=LONGEST_SECONDS) if keys else []
    return [
        _duplicate(key, list(copies))
        for key, copies in groupby(rows, key=lambda row: str(row["idempotency_key"]))
    ]


def _duplicate(key: str, copies: Sequence[asyncpg.Record]) -> Duplicate:
    rows = [AuditRow(copy["seq"], str(copy["id"]), rfc3339(copy["created_at"])) for copy in copies]
    derived = message_id(key, copies[0]["conversation_id"])
    is_known = derived in {row.message_id for row in rows}
    return Duplicate(key, derived if is_known else rows[0].message_id, rows[0], rows[1:])
