"""One question about a batch of records: which of them are settled.

A record is settled when nothing more can come of it: its message is a row with the same body, its
receipt is a row, or it is a dead letter (or the record that it is a copy of is). Settled for good:
none of these is ever taken back. What is not settled has yet to be persisted by somebody.

The same statement notes where the settled messages, persisted or dead, stand in this log.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from persistence.database.pool import Pool, using
from persistence.dead_letters.rows import identity_of
from transport.contract import Record
from transport.envelope import Message, Receipt, decode
from transport.errors import DecodeError

__all__ = ["SettlementQuery", "UnsettledRecord", "asked_of"]

_EPOCH = datetime.fromtimestamp(0, UTC)

# The positions are for people: they wait for no flush. (What is settled was flushed by whoever
# committed it, before it could be seen here.) One row a message and log; the first position
# stays, but that of a message that was redriven is where it came back to.
# Each LATERAL with its LIMIT is one look into an index. A join would be planned anew by the sizes
# of the tables, and a plan that is kept from when they were small reads all of them later.
_SETTLED = """
WITH quiet AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS set),
found AS MATERIALIZED (
    SELECT asked.place, row.id, row.transport, asked.log_offset, asked.appended_at
    FROM unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::int[])
        AS asked (key, body, log_offset, appended_at, place)
    CROSS JOIN LATERAL (
        SELECT id, transport FROM messages
        WHERE idempotency_key = asked.key AND fingerprint = asked.body LIMIT 1
    ) AS row
),
lost AS MATERIALIZED (
    SELECT asked.place, row.id, row.transport, asked.log_offset, asked.appended_at
    FROM unnest($12::bytea[], $13::text[], $14::timestamptz[], $15::int[])
        AS asked (identity, log_offset, appended_at, place)
    CROSS JOIN LATERAL (
        SELECT transport, CASE WHEN kind = 'message' AND NOT EXISTS (
            SELECT FROM messages WHERE messages.id = message_id
        ) THEN message_id END AS id
        FROM dead_letters WHERE identity = asked.identity LIMIT 1
    ) AS row
),
noted AS (
    INSERT INTO message_positions (message_id, transport, partition, log_offset, appended_at)
    SELECT DISTINCT ON (id) id, $1, $2::int, log_offset, appended_at
    FROM (SELECT * FROM found UNION ALL SELECT * FROM lost) AS settled
    WHERE transport <> $1 AND id IS NOT NULL AND (SELECT set FROM quiet) = 'off'
    ORDER BY id, place
    ON CONFLICT (message_id, transport) DO UPDATE SET
        partition = excluded.partition, log_offset = excluded.log_offset,
        appended_at = excluded.appended_at
    WHERE EXISTS (
        SELECT FROM dead_letters
        WHERE dead_letters.message_id = excluded.message_id AND state = 'redriven'
    )
)
SELECT place FROM found
UNION ALL
SELECT asked.place
FROM unnest($8::uuid[], $9::text[], $10::text[], $11::int[])
    AS asked (message_id, user_id, state, place)
CROSS JOIN LATERAL (
    SELECT FROM message_receipts AS held
    WHERE (held.message_id, held.user_id, held.state)
        = (asked.message_id, asked.user_id, asked.state) LIMIT 1
) AS row
UNION ALL
SELECT place FROM lost
"""
"""$1 log, $2 partition; messages: $3 keys, $4 fingerprints, $5 offsets, $6 times, $7 places;
receipts: $8 message ids, $9 users, $10 states, $11 places; letters: $12 identities, $13 offsets,
$14 times, $15 places."""


class UnsettledRecord(msgspec.Struct):
    """A record, and by what its row would be known. Neither: no row can ever be made of it."""

    record: Record
    message: tuple[str, str] | None = None
    """Idempotency key and fingerprint."""
    receipt: tuple[UUID, str, str] | None = None
    """Message id, user and state."""
    settled: bool = False
    seen: float = msgspec.field(default_factory=time.monotonic)
    """When it was read, by the monotonic clock."""


def asked_of(record: Record) -> UnsettledRecord:
    """Return ``record`` with the keys by which its row would be found."""
    try:
        event = decode(record)
    except DecodeError:
        return UnsettledRecord(record)
    if isinstance(event, Message):
        key = event.idempotency_key
        body = event.fingerprint()
        return (
            UnsettledRecord(record, message=(key, body))
            if _storable(key)
            else UnsettledRecord(record)
        )
    return UnsettledRecord(record, receipt=_receipt(event))


def _receipt(event: Receipt) -> tuple[UUID, str, str] | None:
    try:
        identifier = UUID(event.message_id)
    except ValueError:
        return None
    return (identifier, event.user_id, event.state) if _storable(event.user_id) else None


def _storable(text: str) -> bool:
    """Return whether PostgreSQL's text can hold it: no NUL, nothing that is not Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


class SettlementQuery:
    """Asks about records of one partition of one log."""

    def __init__(self, pool: Pool, transport: str, partition: int) -> None:
        self._pool = pool
        self._transport = transport
        self._partition = partition

    async def ask(self, waiting: Sequence[UnsettledRecord], *, letters: bool) -> None:
        """Mark those of ``waiting`` that are settled; ``letters``: look among dead letters too.

        Raises:
            Outage: PostgreSQL can't tell now.
        """
        unknown = [one for one in waiting if not one.settled]
        messages = [(place, one) for place, one in enumerate(unknown) if one.message]
        receipts = [(place, one) for place, one in enumerate(unknown) if one.receipt]
        # Without a row to be known by, a record can only be a letter.
        others = [
            place
            for place, one in enumerate(unknown)
            if letters or not (one.message or one.receipt)
        ]
        async with using(self._pool) as connection:
            rows = await connection.fetch(
                _SETTLED,
                self._transport,
                self._partition,
                [one.message[0] for _, one in messages if one.message],
                [one.message[1] for _, one in messages if one.message],
                [one.record.offset for _, one in messages],
                [_moment(one.record.appended_at) for _, one in messages],
                [place for place, _ in messages],
                [one.receipt[0] for _, one in receipts if one.receipt],
                [one.receipt[1] for _, one in receipts if one.receipt],
                [one.receipt[2] for _, one in receipts if one.receipt],
                [place for place, _ in receipts],
                [identity_of(self._transport, unknown[place].record) for place in others],
                [unknown[place].record.offset for place in others],
                [_moment(unknown[place].record.appended_at) for place in others],
                others,
            )
        for row in rows:
            unknown[row["place"]].settled = True


def _moment(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # a foreign producer may choose its entry ids
        return _EPOCH
