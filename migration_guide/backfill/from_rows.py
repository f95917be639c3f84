"""From PostgreSQL's rows: the records that the source's log no longer holds and the target lacks.

The target's whole log is read once, to know which messages it has: 16 bytes for each record, in a
temporary file. Then the rows are walked in their order, and receipts after them.
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
from migration_guide.parity.beginning import Beginning, both_beginnings
from migration_guide.parity.facts import facts_of
from persistence.database.pool import using
from persistence.tables.columns import MESSAGE, RECEIPT, names, receipt_of
from transport.contract import Envelope, Topic, Transport

__all__ = ["FromRows"]

_PAGE = 500

_MESSAGES = f"""
SELECT {names(MESSAGE)}, fingerprint, seq, transport, partition, log_offset, trace_id
FROM messages
WHERE seq > $1 AND transport = $2 AND ($3::timestamptz IS NULL OR accepted_at >= $3)
ORDER BY seq LIMIT $4
"""  # noqa: S608 - constants only

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
        partitions = of.target.partitions
        ours, _ = await both_beginnings(of.source, of.target, since=of.request.since)
        with _Identities() as copied:
            await copied.fill(of.target, of.source, self._examined)
            async for rows in self._messages():
                lacking = [
                    of_row(row, len(ours), partitions)
                    for row in rows
                    if not self._held(row, ours) and not copied.has(str(row["id"]))
                ]
                yield lacking, {"messages": str(rows[-1]["seq"])}
            async for rows in self._receipts():
                yield [of_receipt(r, partitions) for r in rows if not copied.has(_name(r))], {}

    def _examined(self, records: int) -> None:
        self._of.status.examined += records

    def _held(self, row: asyncpg.Record, ours: Sequence[Beginning]) -> bool:
        """Return whether the source still holds the row's record: ``FromLog`` copies it exactly."""
        partition = row["partition"]
        first = ours[partition].first_held if partition < len(ours) else b""
        return bool(first) and self._of.source.sort_key(row["log_offset"]) >= first

    async def _messages(self) -> AsyncIterator[Sequence[asyncpg.Record]]:
        seq = int(self._of.cursor.get("messages", "0"))
        while rows := await self._fetch(_MESSAGES, seq, self._of.source.name, self._since, _PAGE):
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
