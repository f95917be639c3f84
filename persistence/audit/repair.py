"""Repair an audit's findings, in one transaction, and report each change.

Writers wait while it runs: the tables are locked against changes, not against reading. Records that
can't be rows become dead letters afterwards; after a crash before that, the next repair makes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from persistence.audit.audit import (
    CONSTRAINTS,
    LONGEST_SECONDS,
    duplicates,
    missing_constraints,
    unhurried,
)
from persistence.audit.report import Differing, Duplicate, Lack, RepairReport, Unaccounted
from persistence.audit.scan import REPAIRED, AuditFinding, scan
from persistence.database.pool import Connection, Pool, using
from persistence.database.translation import translated
from persistence.sequences import advance_sequences
from persistence.store.batch import PositionedEvent, Written
from persistence.store.writer import insert
from persistence.tables.columns import MESSAGE, names
from persistence.worker.batch.bisect import isolate
from persistence.worker.batch.decoding import trace_id_of
from transport.clock import now
from transport.contract import DeadLetter, Reason, Record, Transport
from transport.errors import DecodeError
from transport.message.envelope import Event, Message, decode

__all__ = ["repair"]

_LOCK = "LOCK TABLE messages, message_receipts IN SHARE ROW EXCLUSIVE MODE"

# PostgreSQL refuses to change a published table that has neither a primary key nor this. The key
# may be what the repair puts back.
_UNIDENTIFIED = """
SELECT relname::text FROM pg_class
WHERE oid IN ('messages'::regclass, 'message_receipts'::regclass) AND relreplident = 'd'
    AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary)
"""
_IDENTITY = "ALTER TABLE {} REPLICA IDENTITY {}"

_TAKE_RECEIPTS = """
DELETE FROM message_receipts USING unnest($1::uuid[], $2::uuid[]) AS pair (copy, id)
WHERE message_id = pair.copy
RETURNING pair.id, user_id, state, at, correlation_id, created_at
"""

_GIVE_RECEIPTS = """
INSERT INTO message_receipts (message_id, user_id, state, at, correlation_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""

_DELETE = "DELETE FROM messages WHERE seq = ANY($1::bigint[])"

_IDENTIFY = """
UPDATE messages SET id = kept.id FROM unnest($1::bigint[], $2::uuid[]) AS kept (seq, id)
WHERE messages.seq = kept.seq AND messages.id <> kept.id
"""

_DELETE_DOUBLED_RECEIPTS = """
DELETE FROM message_receipts WHERE ctid IN (
    SELECT ctid FROM (
        SELECT ctid, row_number() OVER (
            PARTITION BY message_id, user_id, state ORDER BY created_at, ctid
        ) AS place
        FROM message_receipts
    ) AS receipts WHERE place > 1
)
"""

_DELETE_ORPHANS = """
DELETE FROM message_receipts WHERE NOT EXISTS (
    SELECT FROM messages WHERE messages.id = message_receipts.message_id
)
"""

_SENT = [column for column in MESSAGE if column.sent or column.name.startswith("payload_")]
_RESTORE = f"""
UPDATE messages SET fingerprint = sent.fingerprint,
    {", ".join(f"{c.name} = sent.{c.name}::{c.type}" for c in _SENT)}
FROM unnest(
    $1::bigint[], $2::text[],
    {", ".join(f"${n}::{c.type.removesuffix('[]')}[]" for n, c in enumerate(_SENT, 3))}
) AS sent (seq, fingerprint, {names(_SENT)})
WHERE messages.seq = sent.seq
RETURNING messages.seq
"""  # noqa: S608 - constants only


async def repair(pool: Pool, transport: Transport) -> RepairReport:
    """Remove duplicates (the earliest stays), restore constraints and rows, correct differing rows.

    Raises:
        Outage: PostgreSQL can't do it; nothing was changed.
        TransportError: the log can't be read (nothing was changed), or the dead letters can't be
            appended (everything else was done; run it again).
    """
    found = await scan(pool, transport)
    async with using(pool) as connection, connection.transaction():
        await unhurried(connection)
        await connection.execute(_LOCK)
        await advance_sequences(connection)
        async with _identified(connection):
            removed = await _remove_duplicates(connection)
            constraints, receipts_removed = await _put_back(connection, removed)
        restored = await _restore(connection, found.findings)
        inserted, dead = await _insert(connection, transport, found.findings)
    dead += [
        (finding.what, _dead_letter(finding.record, finding.event))
        for finding in found.findings
        if isinstance(finding.what, Unaccounted) and finding.what.lacks is Lack.DEAD_LETTER
    ]
    if dead:
        await transport.dead_letter([letter for _, letter in dead])
    return RepairReport(
        removed=removed,
        receipts_removed=receipts_removed,
        constraints=constraints,
        inserted=inserted,
        dead_lettered=[what for what, _ in dead],
        restored=restored,
        disorders=found.disorders,
    )


@asynccontextmanager
async def _identified(connection: Connection) -> AsyncIterator[None]:
    """Let the rows of tables without a primary key be changed although they are published."""
    tables = [row["relname"] for row in await connection.fetch(_UNIDENTIFIED)]
    for table in tables:
        await connection.execute(_IDENTITY.format(table, "FULL"))
    yield
    for table in tables:
        await connection.execute(_IDENTITY.format(table, "DEFAULT"))


async def _remove_duplicates(connection: Connection) -> list[Duplicate]:
    doubled = await duplicates(connection)
    if not doubled:
        return []
    copies = {
        (UUID(row.message_id), UUID(duplicate.message_id))
        for duplicate in doubled
        for row in (duplicate.kept, *duplicate.surplus)
    }
    # Receipts are taken out first: with their foreign key, neither could ids change nor would
    # receipts survive.
    receipts = await connection.fetch(
        _TAKE_RECEIPTS, *zip(*copies, strict=True), timeout=LONGEST_SECONDS
    )
    surplus = [row.seq for duplicate in doubled for row in duplicate.surplus]
    await connection.execute(_DELETE, surplus, timeout=LONGEST_SECONDS)
    kept = [(duplicate.kept.seq, UUID(duplicate.message_id)) for duplicate in doubled]
    await connection.execute(_IDENTIFY, *zip(*kept, strict=True), timeout=LONGEST_SECONDS)
    await connection.executemany(
        _GIVE_RECEIPTS, [tuple(row) for row in receipts], timeout=LONGEST_SECONDS
    )
    return doubled


async def _put_back(connection: Connection, removed: Sequence[Duplicate]) -> tuple[list[str], int]:
    missing = await missing_constraints(connection)
    receipts = 0
    if "message_receipts_pkey" in missing:
        receipts += await _deleted(connection, _DELETE_DOUBLED_RECEIPTS)
    if "message_receipts_message_id_fkey" in missing:
        receipts += await _deleted(connection, _DELETE_ORPHANS)
    for name in missing:
        # A half-made index may occupy the name that the constraint needs.
        await connection.execute(
            f"ALTER TABLE {CONSTRAINTS[name].split(' ', 1)[0]} DROP CONSTRAINT IF EXISTS {name}"
        )
        await connection.execute(f"ALTER TABLE {CONSTRAINTS[name]}", timeout=LONGEST_SECONDS)
    if removed and "messages_idempotency_key_key" not in missing:
        # The constraint existed and was violated, so its index is broken.
        await connection.execute("REINDEX TABLE messages", timeout=LONGEST_SECONDS)
    return missing, receipts


async def _deleted(connection: Connection, sql: str) -> int:
    status = await connection.execute(sql, timeout=LONGEST_SECONDS)
    return int(status.rpartition(" ")[2])


async def _restore(connection: Connection, findings: Sequence[AuditFinding]) -> list[Differing]:
    wrong: dict[int, tuple[Differing, Message]] = {}
    for finding in findings:
        if isinstance(finding.what, Differing) and isinstance(finding.event, Message):
            wrong[finding.what.seq] = (finding.what, finding.event)
    if not wrong:
        return []
    sent = [event for _, event in wrong.values()]
    rows = await connection.fetch(
        _RESTORE,
        list(wrong),
        [event.fingerprint() for event in sent],
        *([column.write(getattr(event, column.field)) for event in sent] for column in _SENT),
        timeout=LONGEST_SECONDS,
    )
    # A row that was removed as a duplicate meanwhile can't be corrected.
    return [wrong[row["seq"]][0] for row in rows]


async def _insert(
    connection: Connection, transport: Transport, findings: Sequence[AuditFinding]
) -> tuple[list[Unaccounted], list[tuple[Unaccounted, DeadLetter]]]:
    """Insert the missing rows.

    Returns the records that are rows now, and the records that can't be, with their dead letters.
    """
    lacking = [
        (finding.what, finding.record, finding.event)
        for finding in findings
        if isinstance(finding.what, Unaccounted)
        and finding.what.lacks is Lack.ROW
        and finding.event is not None
    ]
    batch = [
        PositionedEvent(
            event, transport.name, record.partition, record.offset, trace_id_of(record), REPAIRED
        )
        for _, record, event in lacking
    ]

    async def write(part: Sequence[PositionedEvent]) -> Written:
        # A savepoint: a refused statement is rolled back alone.
        with translated():
            async with connection.transaction():
                return await insert(connection, part)

    if not batch:
        return [], []
    outcome = await isolate(batch, write, attempts=1)
    dead = [(i, Reason.IDEMPOTENCY_CONFLICT, "the key has another body") for i in outcome.conflicts]
    dead += [(r.index, r.error.reason, str(r.error)) for r in outcome.refused]
    letters = [
        (lacking[index][0], DeadLetter(lacking[index][1], reason, error, 1, now()))
        for index, reason, error in sorted(dead)
    ]
    return [lacking[index][0] for index in outcome.persisted], letters


def _dead_letter(record: Record, event: Event | None) -> DeadLetter:
    """Return the dead letter of a record that can't be decoded, or whose key has another body."""
    if event is not None:
        error = "the key was used before, with another body; the first one stays"
        return DeadLetter(record, Reason.IDEMPOTENCY_CONFLICT, error, 1, now())
    try:
        decode(record)
    except DecodeError as undecodable:
        return DeadLetter(record, Reason.UNDECODABLE, str(undecodable), 1, now())
    raise AssertionError("what decodes has an event")
