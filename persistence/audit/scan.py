"""Compare the log with the rows: every settled record must have an outcome.

A position in PostgreSQL passes a record only once it is a row or a durable dead letter. So for each
record up to the position, there must be a row, a dead letter, or the tombstone of a row that was
archived or erased.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from uuid import UUID

import asyncpg
import msgspec

from otel.losses import Loss, loss_of
from persistence.audit.own_ids import with_own_ids
from persistence.audit.report import Differing, Disorder, Lack, OwnId, Range, Unaccounted
from persistence.database.pool import Pool, using
from persistence.ownership.settled import settled_through
from persistence.store.dead_identity import identity_of
from persistence.tables.columns import MESSAGE, names
from transport.contract import WORKER_GROUP, DeadLetter, Progress, Record, Topic, Transport
from transport.errors import DecodeError
from transport.message.dead_letters import dead_letter_of
from transport.message.envelope import Event, Message, Receipt, decode
from transport.message.payload import sha256_in
from transport.progress import progress_everywhere

__all__ = ["REPAIRED", "AuditFinding", "Scan", "scan"]

REPAIRED = 0
"""``messages.attempts`` of a row that a repair made.

No worker delivered it, and it is known to be late in its conversation.
"""

_PAGE = 1000

_ROWS = f"""
SELECT {names(MESSAGE)}, seq, fingerprint, transport, partition, log_offset, attempts
FROM messages WHERE id = ANY($1::uuid[]) OR idempotency_key = ANY($2::text[])
"""  # noqa: S608 - constants only

_RECEIPTS = """
SELECT asked.message_id, asked.user_id, asked.state
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS asked (message_id, user_id, state)
JOIN message_receipts USING (message_id, user_id, state)
"""

# An erased message has no fingerprint, so another body can't be detected.
_BURIED = """
SELECT id, fingerprint FROM tombstones WHERE id = ANY($1::uuid[])
"""

_LETTERS = "SELECT identity FROM dead_letters WHERE identity = ANY($1::bytea[])"

_COMPARED = [column for column in MESSAGE if column.sent and column.name != "content"]
_PAYLOAD = [column for column in MESSAGE if column.name.startswith("payload_")]
"""Not compared between logs: the same body may be a payload in only one of them."""


class AuditFinding(msgspec.Struct, frozen=True):
    """A record without an outcome, or with a differing row; it has all data that a repair needs."""

    record: Record
    event: Event | None
    what: Unaccounted | Differing


class Scan(msgspec.Struct):
    """Findings of a scan of the whole log."""

    ranges: list[Range]
    findings: list[AuditFinding]
    disorders: list[Disorder]
    own_ids: list[OwnId]
    loss: Loss | None = None


async def scan(
    pool: Pool, transport: Transport, *, compared: Callable[[int], object] = lambda _: None
) -> Scan:
    """Compare the log's settled records with rows and dead letters.

    Args:
        pool: the database with the rows.
        transport: the log.
        compared: called with the number of further records that were compared.

    Raises:
        Outage: PostgreSQL can't answer now.
        TransportUnavailable: the log can't be read.
    """
    found = Scan([], [], [], [])
    parts = await progress_everywhere(transport, Topic.MESSAGES, group=WORKER_GROUP)
    found.loss = loss_of(transport.name, parts)
    settled = await settled_through(pool, transport, [part.partition for part in parts])
    for part in parts:
        through = settled.get(part.partition)
        await _Partition(pool, transport, found, compared).compare(part, through)
    open_ends = [f for f in found.findings if isinstance(f.what, Unaccounted)]
    if open_ends:
        # The table is filled from the dead-letter log, and may be behind it.
        lettered = await _in_dead_letter_log(transport)
        name = transport.name
        found.findings = [f for f in found.findings if identity_of(name, f.record) not in lettered]
    return found


class _Partition:
    """The scan of one partition, page by page."""

    def __init__(
        self, pool: Pool, transport: Transport, found: Scan, compared: Callable[[int], object]
    ) -> None:
        self._pool = pool
        self._transport = transport
        self._found = found
        self._compared = compared
        self._latest: dict[str, int] = {}

    async def compare(self, progress: Progress, through: str | None) -> None:
        count, first, last = 0, None, None
        async for page in self._settled(progress.partition, through):
            first = first or page[0].offset
            last = page[-1].offset
            count += len(page)
            await self._page(page)
            self._compared(len(page))
        self._found.ranges.append(Range(progress.partition, count, first, last, progress.lost))

    async def _settled(self, partition: int, through: str | None) -> AsyncIterator[list[Record]]:
        if not through:
            return
        key, after = self._transport.sort_key, None
        while True:
            records = await self._transport.read(
                Topic.MESSAGES, partition, after=after, limit=_PAGE
            )
            page = [record for record in records if key(record.offset) <= key(through)]
            if page:
                yield page
            if not records or len(page) < len(records):
                return
            after = records[-1].offset

    async def _page(self, page: Sequence[Record]) -> None:
        decoded = [(record, _decoded(record)) for record in page]
        events = [(record, event) for record, event in decoded if event is not None]
        rows = await self._rows([e for _, e in events if isinstance(e, Message)])
        received = await self._receipts([e for _, e in events if isinstance(e, Receipt)])
        buried = await self._buried([e for _, e in events])
        suspects = await self._undecodable([record for record, event in decoded if event is None])
        for record, event in events:
            if isinstance(event, Receipt):
                # Another producer may spell the id in upper case, say. PostgreSQL does not.
                of = str(_uuid(event.message_id))
                if of not in buried and (of, event.user_id, event.state) not in received:
                    suspects.append(_unaccounted(record, event, Lack.ROW))
            elif row := rows.get(event.idempotency_key) or rows.get(event.message_id):
                suspects += self._against(record, event, row)
            elif event.message_id in buried:
                if buried[event.message_id] not in {None, event.fingerprint()}:
                    suspects.append(_unaccounted(record, event, Lack.DEAD_LETTER))
            else:
                suspects.append(_unaccounted(record, event, Lack.ROW))
        if suspects:
            self._found.findings += await self._without_letter(suspects)

    async def _undecodable(self, records: Sequence[Record]) -> list[AuditFinding]:
        own_ids = await with_own_ids(self._pool, self._transport.name, records)
        self._found.own_ids += own_ids
        stored = {it.offset for it in own_ids}
        return [
            _unaccounted(record, None, Lack.DEAD_LETTER)
            for record in records
            if record.offset not in stored
        ]

    def _against(self, record: Record, event: Message, row: asyncpg.Record) -> list[AuditFinding]:
        """Compare a message with the row of its key."""
        own = (row["transport"], row["partition"], row["log_offset"]) == (
            self._transport.name,
            record.partition,
            record.offset,
        )
        body = event.fingerprint()
        if own and row["attempts"] != REPAIRED:
            self._follow(record, event, row["seq"])
        if not own and body != row["fingerprint"]:
            return [_unaccounted(record, event, Lack.DEAD_LETTER)]
        columns = [
            column.name
            for column in (_COMPARED + _PAYLOAD if own else _COMPARED)
            if getattr(event, column.field) != column.read(row[column.name])
        ]
        if _digest_of(event) != _digest_in(row):
            columns.append("content")
        elif event.payload_key is not None:
            # The record has no content. A repair of other columns must leave the row's content as
            # it is.
            event = msgspec.structs.replace(event, content=row["content"])
        if body != row["fingerprint"]:
            columns.append("fingerprint")
        if not columns:
            return []
        identifier = str(row["id"])
        what = Differing(record.partition, record.offset, identifier, row["seq"], columns)
        return [AuditFinding(record, event, what)]

    def _follow(self, record: Record, event: Message, seq: int) -> None:
        latest = self._latest.get(event.conversation_id, 0)
        if seq < latest:
            self._found.disorders.append(
                Disorder(record.partition, record.offset, event.message_id, seq, latest)
            )
        else:
            self._latest[event.conversation_id] = seq

    async def _rows(self, messages: Sequence[Message]) -> dict[str, asyncpg.Record]:
        """Return the rows by key and by id."""
        ids = [i for m in messages if (i := _uuid(m.message_id))]
        # No row contains a text with a NUL, and a query can't even send one.
        keys = [m.idempotency_key for m in messages if "\0" not in m.idempotency_key]
        if not messages:
            return {}
        async with using(self._pool) as connection:
            rows = await connection.fetch(_ROWS, ids, keys)
        by_id = {str(row["id"]): row for row in rows}
        return by_id | {row["idempotency_key"]: row for row in rows}

    async def _buried(self, events: Sequence[Event]) -> dict[str, str | None]:
        """Return the fingerprints of messages whose rows were archived or erased, by id."""
        ids = list({i for event in events if (i := _uuid(event.message_id))})
        if not ids:
            return {}
        async with using(self._pool) as connection:
            rows = await connection.fetch(_BURIED, ids)
        return {str(row["id"]): row["fingerprint"] for row in rows}

    async def _receipts(self, receipts: Sequence[Receipt]) -> set[tuple[str, str, str]]:
        questions = [
            (i, r.user_id, r.state)
            for r in receipts
            if (i := _uuid(r.message_id)) and "\0" not in r.user_id
        ]
        if not questions:
            return set()
        async with using(self._pool) as connection:
            rows = await connection.fetch(_RECEIPTS, *zip(*questions, strict=True))
        return {(str(row["message_id"]), row["user_id"], row["state"]) for row in rows}

    async def _without_letter(self, suspects: Sequence[AuditFinding]) -> list[AuditFinding]:
        name = self._transport.name
        identities = [identity_of(name, suspect.record) for suspect in suspects]
        async with using(self._pool) as connection:
            rows = await connection.fetch(_LETTERS, identities)
        lettered = {row["identity"] for row in rows}
        return [
            suspect
            for suspect, identity in zip(suspects, identities, strict=True)
            if isinstance(suspect.what, Differing) or identity not in lettered
        ]


async def _in_dead_letter_log(transport: Transport) -> set[bytes]:
    found: set[bytes] = set()
    after: str | None = None
    while page := await transport.read(Topic.DEAD_LETTERS, 0, after=after, limit=_PAGE):
        for record in page:
            letter = _letter(record)
            if letter:
                found.add(identity_of(transport.name, letter.record))
        after = page[-1].offset
    return found


def _letter(record: Record) -> DeadLetter | None:
    try:
        return dead_letter_of(record)
    except DecodeError:
        return None


def _unaccounted(record: Record, event: Event | None, lacks: Lack) -> AuditFinding:
    identifier = event.message_id if event else None
    what = Unaccounted(record.partition, record.offset, identifier, lacks)
    return AuditFinding(record, event, what)


def _digest_of(event: Message) -> str:
    """Return the SHA-256 of the content, which may be in the payload store."""
    payload = event.payload
    return payload.sha256 if payload else sha256(event.content.encode()).hexdigest()


def _digest_in(row: asyncpg.Record) -> str:
    """Return the SHA-256 of a row's content; of a payload, the row may have only the key."""
    content, key = row["content"], row["payload_key"]
    return sha256_in(key) if key and not content else sha256(content.encode()).hexdigest()


def _decoded(record: Record) -> Event | None:
    try:
        return decode(record)
    except DecodeError:
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
