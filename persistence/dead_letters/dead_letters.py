"""List, read, count and discard dead letters, for operators (promise 7).

``persistence.dead_letters.redrive`` redrives them.
"""

from __future__ import annotations

from typing import Annotated

import asyncpg
import msgspec

from persistence.database.pool import Pool, using
from persistence.dead_letters.selection import Selection, index_scan, where
from persistence.json_types import Id, Small, Time, known
from persistence.tables.states import LetterState
from persistence.timestamps import rfc3339

__all__ = ["LOOKED_AT", "DeadLetterBytes", "DeadLetters", "LetterPage", "StoredDeadLetter"]

LOOKED_AT = 10_000
"""How many letters of an index are read for one page, if the index alone can't decide."""
_AT_ONCE = 1_000
"""How many letters are discarded in one transaction."""


class StoredDeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """A dead letter without its bytes; `size` is its body's. Times are RFC 3339, UTC.

    `cause` is the error without the parts that differ between letters; null until it is computed.
    """

    id: int
    kind: str
    """``message``, ``receipt`` or ``unknown``."""
    message_id: Id | None
    conversation_id: str | None
    reason: str
    error: str
    cause: str | None
    """See ``persistence.dead_letters.cause``."""
    attempts: Small
    redrives: Small
    """How often the record had been redriven when it failed."""
    failed_at: Time
    state: Annotated[str, known(*LetterState)]
    transport: str
    topic: str
    partition: Small
    offset: str
    size: int
    resolved_at: Time | None
    """When it was redriven or discarded; the next fields say by whom and why."""
    resolved_by: str | None
    resolved_why: str | None


class DeadLetterBytes(msgspec.Struct, frozen=True):
    """The record itself, byte for byte. Headers keep their order."""

    key: bytes
    body: bytes
    headers: list[tuple[bytes, bytes]]


class LetterPage(msgspec.Struct, frozen=True):
    """A page of dead letters, newest first, and the cursor of the next page.

    ``next`` may be set even if ``items`` are few or none: the letters that were read held no more.
    """

    items: list[StoredDeadLetter]
    next: int | None


_COLUMNS = """id, kind, message_id, conversation_id, reason, error, cause, attempts, redrives,
    failed_at, state, transport, source_topic, source_partition, source_offset,
    length(body) AS size,
    settled_at AS resolved_at, settled_by AS resolved_by, settled_why AS resolved_why"""


class DeadLetters:
    """Reads and resolves dead letters. Methods raise ``Outage`` if PostgreSQL can't answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(
        self,
        selection: Selection | None = None,
        *,
        state: str | None = LetterState.PENDING,
        before: int | None = None,
        limit: int = 100,
    ) -> list[StoredDeadLetter]:
        """Return up to ``limit`` dead letters, newest first.

        ``before`` is the cursor: the last id of the page before. ``state=None`` is any state.
        """
        condition, values = where(
            selection or Selection(), ("state = {}", state), ("id < {}", before)
        )
        sql = f"SELECT {_COLUMNS} FROM dead_letters WHERE {condition} ORDER BY id DESC LIMIT {limit:d}"  # noqa: E501, S608 - values are arguments
        async with using(self._pool) as connection:
            return [_stored(row) for row in await connection.fetch(sql, *values)]

    async def page(
        self,
        selection: Selection,
        *,
        text: str | None = None,
        state: str | None = LetterState.PENDING,
        before: int | None = None,
        limit: int = 100,
    ) -> LetterPage:
        """Return a page of dead letters whose error contains ``text``, in upper or lower case.

        It reads one index, and at most ``LOOKED_AT`` letters of it, however many there are.
        """
        part = index_scan(
            selection,
            state=state,
            before=before,
            more=[("strpos(lower(error), lower({}::text)) > 0", text)],
        )
        below = f"FROM dead_letters WHERE {part.stretch} ORDER BY {part.order}"
        sql = f"SELECT {_COLUMNS} {below} LIMIT {limit + 1:d}"
        if part.left:
            sql = f"""
                SELECT {_COLUMNS} FROM (SELECT * {below} LIMIT {LOOKED_AT}) AS looked_at
                WHERE {part.left} LIMIT {limit + 1:d}
            """  # noqa: S608 - values are arguments
        async with using(self._pool) as connection:
            rows = await connection.fetch(sql, *part.values, *part.left_values)
            if len(rows) > limit:
                rows = rows[:limit]
                end = rows[-1]["id"]
            elif part.left:
                last = f"SELECT id {below} OFFSET {LOOKED_AT - 1} LIMIT 1"
                end = await connection.fetchval(last, *part.values)
            else:
                end = None
        return LetterPage([_stored(row) for row in rows], end)

    async def get(self, identifier: int) -> tuple[StoredDeadLetter, DeadLetterBytes] | None:
        """Return one dead letter with its bytes; ``None`` if no letter has that id."""
        sql = f"SELECT {_COLUMNS}, record_key, body, header_names, header_values FROM dead_letters WHERE id = $1"  # noqa: E501, S608 - constants only
        async with using(self._pool) as connection:
            row = await connection.fetchrow(sql, identifier)
        if row is None:
            return None
        headers = list(zip(row["header_names"], row["header_values"], strict=True))
        return _stored(row), DeadLetterBytes(row["record_key"], row["body"], headers)

    async def newest(self) -> int:
        """Return the largest id that there is; 0 if there are no letters."""
        async with using(self._pool) as connection:
            sql = "SELECT coalesce(max(id), 0) FROM dead_letters"
            return int(await connection.fetchval(sql))

    async def count(
        self,
        selection: Selection | None = None,
        *,
        state: str | None = LetterState.PENDING,
        up_to: int | None = None,
    ) -> dict[str, int]:
        """Return the number of letters, by reason; with ``up_to``, of ids up to that one."""
        condition, values = where(
            selection or Selection(), ("state = {}", state), ("id <= {}", up_to)
        )
        sql = f"SELECT reason, count(*) AS letters FROM dead_letters WHERE {condition} GROUP BY reason ORDER BY reason"  # noqa: E501, S608 - values are arguments
        async with using(self._pool) as connection:
            return {row["reason"]: row["letters"] for row in await connection.fetch(sql, *values)}

    async def discard(
        self, selection: Selection, *, by: str, why: str, up_to: int, most: int | None = None
    ) -> int:
        """Discard the pending letters of ``selection`` for good; return their number.

        They stay listed as discarded, with caller and reason, and can't be redriven. A thousand are
        discarded at once, the oldest first: those with ids up to ``up_to``, at most ``most``.
        """
        discarded, last = 0, 0
        while most is None or discarded < most:
            at_once = _AT_ONCE if most is None else min(_AT_ONCE, most - discarded)
            condition, values = where(
                selection,
                ("state = {}", LetterState.PENDING),
                ("id > {}", last),
                ("id <= {}", up_to),
            )
            n = len(values)
            sql = f"""
                UPDATE dead_letters SET state = ${n + 1}, settled_at = now(),
                    settled_by = ${n + 2}, settled_why = ${n + 3}
                WHERE state = '{LetterState.PENDING}' AND id = ANY(ARRAY(
                    SELECT id FROM dead_letters WHERE {condition}
                    ORDER BY id LIMIT {at_once:d} FOR UPDATE))
                RETURNING id
            """  # noqa: S608 - values are arguments
            async with using(self._pool) as connection:
                rows = await connection.fetch(sql, *values, LetterState.DISCARDED, by, why)
            discarded += len(rows)
            if len(rows) < at_once:
                break
            last = max(row["id"] for row in rows)
        return discarded


def _stored(row: asyncpg.Record) -> StoredDeadLetter:
    message_id, resolved_at = row["message_id"], row["resolved_at"]
    return StoredDeadLetter(
        id=row["id"],
        kind=row["kind"],
        message_id=str(message_id) if message_id else None,
        conversation_id=row["conversation_id"],
        reason=row["reason"],
        error=row["error"],
        cause=row["cause"],
        attempts=row["attempts"],
        redrives=row["redrives"],
        failed_at=rfc3339(row["failed_at"]),
        state=row["state"],
        transport=row["transport"],
        topic=row["source_topic"],
        partition=row["source_partition"],
        offset=row["source_offset"],
        size=row["size"],
        resolved_at=rfc3339(resolved_at) if resolved_at else None,
        resolved_by=row["resolved_by"],
        resolved_why=row["resolved_why"],
    )
