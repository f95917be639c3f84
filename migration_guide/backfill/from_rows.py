"""From PostgreSQL's rows: the records that the source's log no longer holds and the target lacks.

Both logs are read once, whole, to know which messages they have: 16 bytes for each record, in
temporary files. Then the rows are walked in their order, and receipts after them. A row's offset
does not tell whether the source still holds its record: a failover or an ``XDEL`` takes records out
of the middle.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Self

import asyncpg

from migration_guide.backfill.appending import BackfillAppends
from migration_guide.backfill.copies import of_receipt, of_row
from migration_guide.parity.facts import facts_of
from persistence.database.pool import using
from persistence.tables.columns import MESSAGE, RECEIPT, names, receipt_of
from transport.contract import Envelope, Topic, Transport

__all__ = ["FromRows"]

_PAGE = 500

_MESSAGES = f"""
SELECT {names(MESSAGE)}, fingerprint, seq, transport, partition, log_offset, trace_id
FROM messages
WHERE seq > $1 AND seq <= $2 AND transport = $3
    AND ($4::timestamptz IS NULL OR accepted_at >= $4)
ORDER BY seq LIMIT $5
"""  # noqa: S608 - constants only

_NEWEST = "SELECT coalesce(max(seq), 0) FROM messages"

_RECEIPTS = f"""
SELECT {names(RECEIPT, "receipts")}
FROM message_receipts AS receipts JOIN messages ON messages.id = receipts.message_id
WHERE (receipts.message_id, receipts.user_id, receipts.state) > ($1, $2, $3)
    AND messages.transport = $4 AND ($5::timestamptz IS NULL OR receipts.at >= $5)
ORDER BY receipts.message_id, receipts.user_id, receipts.state LIMIT $6
"""  # noqa: S608 - constants only


class FromRows:
    """The rounds of one backfill."""

    def __init__(self, of: BackfillAppends) -> None:
        self._of = of
        since = of.request.since
        self._since = None if since is None else datetime.fromtimestamp(since, UTC)

    def close(self) -> None:
        """Do nothing: a round keeps nothing open."""

    async def round(self) -> bool:
        """Compare, append missing records, and return whether there were any."""
        of = self._of
        before, step = of.status.appended, of.rate.at_once
        async for envelopes, through in self._lacking():
            of.status.stage = "appending"
            of.status.missing += len(envelopes)
            for start in range(0, len(envelopes), step):
                await of.append(envelopes[start : start + step])
            of.cursor |= through
        return of.status.appended > before

    async def count(self) -> int:
        """Return the number of records that a round would append."""
        return sum([len(envelopes) async for envelopes, _ in self._lacking()])

    async def _lacking(self) -> AsyncIterator[tuple[list[Envelope], dict[str, str]]]:
        """Yield the records that the target lacks, each with the cursor after its append."""
        of = self._of
        of.status.stage = "comparing"
        source, target = of.source, of.target
        # Rows that come during the reads are left out: their records may be behind the pages read.
        newest = (await self._fetch(_NEWEST))[0][0]
        with _Identities() as held, _Identities() as copied:
            await held.fill(source, target, self._examined)
            await copied.fill(target, source, self._examined)
            async for rows in self._messages(newest):
                lacking = [
                    of_row(row, source.partitions, target.partitions)
                    for row in rows
                    if not held.has(str(row["id"])) and not copied.has(str(row["id"]))
                ]
                yield lacking, {"messages": str(rows[-1]["seq"])}
            async for rows in self._receipts():
                lacking = [
                    of_receipt(row, target.partitions)
                    for row in rows
                    if not held.has(_name(row)) and not copied.has(_name(row))
                ]
                yield lacking, {}

    def _examined(self, records: int) -> None:
        self._of.status.examined += records

    async def _messages(self, newest: int) -> AsyncIterator[Sequence[asyncpg.Record]]:
        """Yield the messages that the cursor is not through, up to a ``seq``."""
        seq, name = int(self._of.cursor.get("messages", "0")), self._of.source.name
        while rows := await self._fetch(_MESSAGES, seq, newest, name, self._since, _PAGE):
            yield rows
            seq = rows[-1]["seq"]

    async def _receipts(self) -> AsyncIterator[Sequence[asyncpg.Record]]:
        last: tuple[object, str, str] = ("00000000-0000-0000-0000-000000000000", "", "")
        while rows := await self._fetch(_RECEIPTS, *last, self._of.source.name, self._since, _PAGE):
            yield rows
            last = rows[-1]["message_id"], rows[-1]["user_id"], rows[-1]["state"]

    async def _fetch(self, sql: str, *values: object) -> Sequence[asyncpg.Record]:
        async with using(self._of.pool) as connection:
            return await connection.fetch(sql, *values)


class _Identities:
    """The identities of the messages that a log has, in a temporary file."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE known (identity BLOB PRIMARY KEY) WITHOUT ROWID;"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    async def fill(self, log: Transport, other: Transport, examined: Callable[[int], None]) -> None:
        """Add the identity of every message of ``log``."""
        for partition in range(log.partitions):
            after: str | None = None
            while page := await log.read(Topic.MESSAGES, partition, after=after, limit=_PAGE):
                self._db.executemany(
                    "INSERT OR IGNORE INTO known VALUES (?)",
                    [
                        (
                            facts_of(
                                record,
                                0,
                                other=other.name,
                                sort_key=log.sort_key,
                                other_key=other.sort_key,
                            ).identity,
                        )
                        for record in page
                    ],
                )
                after = page[-1].offset
                examined(len(page))

    def has(self, name: str) -> bool:
        """Return whether the log has the message or receipt of this name."""
        identity = blake2b(name.encode("utf-8", "replace"), digest_size=16).digest()
        found = self._db.execute("SELECT 1 FROM known WHERE identity = ?", (identity,)).fetchone()
        return found is not None


def _name(row: asyncpg.Record) -> str:
    return receipt_of(row).identity
