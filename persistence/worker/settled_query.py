"""Ask PostgreSQL which records of a log are settled.

A record is settled when nothing more can come of it: its message is a row with the same body, its
receipt is a row, or it is a dead letter (or the original of which it is a copy is one). It stays
settled: none of these is ever taken back, except by a tombstone, which settles it as well. An
unsettled record still has to be persisted.

The same statement stores the positions of settled messages, persisted or dead, in this log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from uuid import UUID

import msgspec

from persistence.array_literals import of_plain, of_texts
from persistence.database.pool import Pool, using
from persistence.store.dead_identity import identity_of
from transport.contract import Record
from transport.errors import DecodeError
from transport.message.envelope import Message, Receipt, decode

__all__ = ["SETTLED", "SettlementQuery", "UnsettledRecord", "unsettled_record"]

# The first and the last second of ``datetime``, as Unix times.
_EARLIEST, _LATEST = -62_135_596_800.0, 253_402_300_799.0

# The positions are for people, so they wait for no flush. (A settled record was flushed by the
# process that committed it, before it could be seen here.) There is one row for each message and
# log. The first position stays, except for a redriven message: it gets its latest position. Each
# LATERAL with its LIMIT is one search in an index. A join would be planned by the sizes of the
# tables, and a cached plan from when they were small would later read them whole.
SETTLED = """
WITH quiet AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS set),
messages_asked AS MATERIALIZED (
    SELECT * FROM unnest($2::text::uuid[], $3::text::text[], $4::text::int[], $5::text::text[],
        $6::text::float8[], $7::text::int[])
        AS asked (id, body, partition, log_offset, appended_at, place)
),
receipts_asked AS MATERIALIZED (
    SELECT * FROM unnest($8::text::uuid[], $9::text::text[], $10::text::text[], $11::text::int[])
        AS asked (message_id, user_id, state, place)
),
found AS MATERIALIZED (
    SELECT asked.place, row.id, row.transport, asked.partition, asked.log_offset,
        to_timestamp(asked.appended_at) AS appended_at
    FROM messages_asked AS asked
    CROSS JOIN LATERAL (
        SELECT id, transport FROM messages
        WHERE messages.id = asked.id AND fingerprint = asked.body LIMIT 1
    ) AS row
),
lost AS MATERIALIZED (
    SELECT asked.place, row.id, row.transport, asked.partition, asked.log_offset,
        asked.appended_at
    FROM unnest($12::bytea[], $13::int[], $14::text[], $15::timestamptz[], $16::int[])
        AS asked (identity, partition, log_offset, appended_at, place)
    CROSS JOIN LATERAL (
        SELECT transport, CASE WHEN kind = 'message' AND NOT EXISTS (
            SELECT FROM messages WHERE messages.id = dead_letters.message_id
        ) THEN message_id END AS id
        FROM dead_letters WHERE identity = asked.identity LIMIT 1
    ) AS row
),
noted AS (
    INSERT INTO message_positions (message_id, transport, partition, log_offset, appended_at)
    SELECT DISTINCT ON (id) id, $1, partition, log_offset, appended_at
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
SELECT array_agg(place) FROM (
    SELECT place FROM found
    UNION ALL
    SELECT asked.place
    FROM receipts_asked AS asked
    CROSS JOIN LATERAL (
        SELECT FROM message_receipts AS held
        WHERE (held.message_id, held.user_id, held.state)
            = (asked.message_id, asked.user_id, asked.state) LIMIT 1
    ) AS row
    UNION ALL
    SELECT place FROM lost
    UNION ALL
    SELECT asked.place
    FROM (
        SELECT id, body, place FROM messages_asked
        UNION ALL
        SELECT message_id, NULL, place FROM receipts_asked
    ) AS asked
    CROSS JOIN LATERAL (
        SELECT FROM tombstones
        WHERE tombstones.id = asked.id AND (asked.body IS NULL OR fingerprint IS NULL
            OR fingerprint = asked.body) LIMIT 1
    ) AS row
) AS settled
"""
"""Returns the places of the settled records, null if there are none.

$1 log; messages: $2 ids, $3 fingerprints, $4 partitions, $5 offsets, $6 times (Unix seconds),
$7 places; receipts: $8 message ids, $9 users, $10 states, $11 places; letters: $12 identities,
$13 partitions, $14 offsets, $15 times, $16 places. Messages and receipts are sent as literals
(``persistence.array_literals``); there are few letters.
"""

_RECORDS = 250
"""The most records of a statement for several requests; a single request may have more.

Building a statement and reading its answer keeps the process from other requests, and PostgreSQL
does the work in one go: 2000 records take tens of milliseconds on each side.
"""


class UnsettledRecord(msgspec.Struct):
    """A record, and the keys by which it would be found. Without any, it can never become a row."""

    record: Record
    message: tuple[str, str] | None = None
    """Id and fingerprint."""
    receipt: tuple[str, str, str] | None = None
    """Message id, user and state."""
    settled: bool = False


def unsettled_record(record: Record) -> UnsettledRecord:
    """Return ``record`` with the keys by which its row would be found."""
    try:
        event = decode(record)
    except DecodeError:
        return UnsettledRecord(record)
    if isinstance(event, Message):
        if not _storable(event.idempotency_key):
            return UnsettledRecord(record)
        fingerprint = record.fingerprint or event.fingerprint()
        return UnsettledRecord(record, message=(event.message_id, fingerprint))
    return UnsettledRecord(record, receipt=_receipt(event))


def _receipt(event: Receipt) -> tuple[str, str, str] | None:
    identifier = _uuid(event.message_id)
    if identifier is None or not _storable(event.user_id):
        return None
    return identifier, event.user_id, event.state


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _storable(text: str) -> bool:
    """Return whether PostgreSQL can store the text: no NUL, and only valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


class _PendingQuery(msgspec.Struct, eq=False):
    """Records that one partition asks about, until there is an answer or an ``error``."""

    records: Sequence[UnsettledRecord]
    letters: bool
    answered: bool = False
    error: Exception | None = None


class SettlementQuery:
    """Asks which records of one log are settled: one statement for all partitions that wait."""

    def __init__(self, pool: Pool, transport: str) -> None:
        self._pool = pool
        self._transport = transport
        self._turn = asyncio.Lock()
        self._queries: list[_PendingQuery] = []

    async def ask(self, records: Sequence[UnsettledRecord], *, letters: bool) -> None:
        """Mark the settled records among ``records``.

        Other partitions that ask meanwhile share the next statement.

        Args:
            records: records of one partition, in order.
            letters: whether to look among dead letters too.

        Raises:
            Outage: PostgreSQL can't answer now.
        """
        query = _PendingQuery([record for record in records if not record.settled], letters)
        self._queries.append(query)
        try:
            async with self._turn:
                while not query.answered and query.error is None:
                    await self._answer(self._next_queries())
        finally:
            if query in self._queries:
                self._queries.remove(query)
        if query.error is not None:
            raise query.error

    def _next_queries(self) -> list[_PendingQuery]:
        """Return the first queries, at least one, that together have not too many records."""
        sizes = accumulate(len(query.records) for query in self._queries)
        count = sum(1 for size in sizes if size <= _RECORDS)
        return self._queries[: max(1, count)]

    async def _answer(self, queries: Sequence[_PendingQuery]) -> None:
        try:
            await self._ask(queries)
        except Exception as error:  # noqa: BLE001 - raised in each caller
            for query in queries:
                query.error = error
        else:
            for query in queries:
                query.answered = True
        # If this call is cancelled, the queries stay: another caller takes them.
        self._queries = [query for query in self._queries if query not in queries]

    async def _ask(self, queries: Sequence[_PendingQuery]) -> None:
        unknown = [asked for query in queries for asked in query.records]
        letters = [query.letters for query in queries for _ in query.records]
        messages = [place for place, asked in enumerate(unknown) if asked.message]
        receipts = [place for place, asked in enumerate(unknown) if asked.receipt]
        # A record without keys can only be a dead letter.
        others = [
            place
            for place, asked in enumerate(unknown)
            if letters[place] or not (asked.message or asked.receipt)
        ]
        records = [unknown[place].record for place in messages]
        lost = [unknown[place].record for place in others]
        async with using(self._pool) as connection:
            settled = await connection.fetchval(
                SETTLED,
                self._transport,
                *_columns([asked.message for asked in unknown if asked.message], 2),
                of_plain([record.partition for record in records]),
                of_texts([record.offset for record in records]),
                of_plain([_seconds(record.appended_at) for record in records]),
                of_plain(messages),
                *_columns([asked.receipt for asked in unknown if asked.receipt], 3),
                of_plain(receipts),
                [identity_of(self._transport, record) for record in lost],
                [record.partition for record in lost],
                [record.offset for record in lost],
                [datetime.fromtimestamp(_seconds(record.appended_at), UTC) for record in lost],
                others,
            )
        for place in settled or ():
            unknown[place].settled = True


def _columns(keys: Sequence[tuple[str, ...]], count: int) -> list[str]:
    """Return the literal of each of the ``count`` columns of ``keys``; the first has the ids."""
    ids, *texts = zip(*keys, strict=True) if keys else [()] * count
    return [of_plain(ids), *map(of_texts, texts)]


def _seconds(appended_at: float) -> float:
    """Return a time that PostgreSQL can store: a foreign producer may choose its entry ids."""
    return appended_at if _EARLIEST <= appended_at <= _LATEST else 0.0
