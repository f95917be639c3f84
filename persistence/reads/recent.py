"""Messages listed from the newest on: of a sender, of a conversation, of the last minutes, or all.

A conversation is read by its own index. The rest is read in slices of time, newest first, by the
BRIN index on ``created_at``. That index costs an insert next to nothing; a B-tree on the sender
would cost a third more WAL. A slice grows while PostgreSQL answers quickly, and shrinks while it
does not. After ``SECONDS``, a listing ends with a cursor to go on from. If no slice was read by
then, it fails, because the cursor would be the one that it began at.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.errors import TooSlow

__all__ = ["SECONDS", "SLICE_SECONDS", "RecentMessage", "RecentPage", "RecentPlace", "latest"]

SECONDS = 2.0
"""Seconds after which a listing returns the rows that it has found."""

SLICE_SECONDS = 1.0
"""The most seconds that PostgreSQL may take for a slice. The first slice has an eighth of it; after
each that takes too long, a much narrower one has twice as long."""

_COLUMNS = """id, conversation_id, sender_id, client_message_id, correlation_id, accepted_at,
    created_at, seq"""

OF_CONVERSATION = f"""
SELECT {_COLUMNS} FROM messages WHERE conversation_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3
"""  # noqa: S608 - constants only

# Rows of one batch have the same time, so `seq` says where the page before ended.
SLICE = f"""
SELECT {_COLUMNS} FROM messages
WHERE created_at >= $1 AND created_at <= $2 AND (created_at < $2 OR seq < $3)
    AND ($4::text IS NULL OR sender_id = $4)
ORDER BY created_at DESC, seq DESC LIMIT $5
"""  # noqa: S608 - constants only

LAST = 2**63 - 1
_CONVERSATION_ROWS = 2_000
"""How many rows of a conversation are read to find those of one sender."""
_FIRST_SLICE = timedelta(seconds=10)
_WIDER = 4
_NARROWER = 16
_QUICK = 0.1
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)
"""How far PostgreSQL's clock may be ahead of ours (it may be another host's, after a failover)."""
_STEP = timedelta(hours=1)
"""How far PostgreSQL's clock may have been set back, so that times of rows are out of order."""


class RecentPlace(msgspec.Struct, frozen=True):
    """Where a listing goes on: at rows of time ``at`` before ``seq``, then at earlier ones."""

    at: datetime
    seq: int


class RecentMessage(msgspec.Struct, frozen=True):
    """A row's ids and times."""

    id: str
    conversation_id: str
    sender_id: str
    client_message_id: str
    correlation_id: str
    accepted_at: datetime
    created_at: datetime
    seq: int


class RecentPage(msgspec.Struct, frozen=True):
    """Rows found, newest first. ``next`` is null if there is nothing before them."""

    rows: list[RecentMessage]
    next: RecentPlace | None


async def latest(
    pool: Pool,
    *,
    conversation: str | None = None,
    sender: str | None = None,
    since: datetime | None = None,
    before: RecentPlace | None = None,
    limit: int,
) -> RecentPage:
    """Return up to ``limit`` rows, newest first, that were persisted at ``since`` or later.

    It may return fewer although there are more: it stops after ``SECONDS``, or after a number of
    the conversation's rows.

    Raises:
        Outage: PostgreSQL can't answer now, or took too long for every slice that was tried.
    """
    if conversation is not None:
        most = limit + 1 if sender is None else _CONVERSATION_ROWS
        async with using(pool) as connection:
            rows = await connection.fetch(
                OF_CONVERSATION, conversation, before.seq if before else LAST, most
            )
        end = len(rows) < most
        return _chosen([_found(row) for row in rows], sender, since, limit, end=end)
    async with using(pool) as connection:
        return await _by_time(connection, sender, since or _BEGINNING, before, limit)


def _chosen(
    rows: list[RecentMessage], sender: str | None, since: datetime | None, limit: int, *, end: bool
) -> RecentPage:
    """Return the wanted rows of a conversation. ``end``: there are no rows behind these."""
    found: list[RecentMessage] = []
    for row in rows:
        if since is not None and row.created_at < since:
            if row.created_at < since - _STEP:
                return RecentPage(found, None)
            continue
        if sender is None or row.sender_id == sender:
            if len(found) == limit:
                return RecentPage(found, RecentPlace(found[-1].created_at, found[-1].seq))
            found.append(row)
    return RecentPage(found, None if end else RecentPlace(rows[-1].created_at, rows[-1].seq))


async def _by_time(
    connection: Connection,
    sender: str | None,
    since: datetime,
    before: RecentPlace | None,
    limit: int,
) -> RecentPage:
    now = datetime.now(UTC)
    until = before or RecentPlace(now + _AHEAD, LAST)
    width, patience = _FIRST_SLICE, SLICE_SECONDS / 8
    was_cut = False
    begun = until
    found: list[RecentMessage] = []
    ends = time.monotonic() + SECONDS
    while until.at > since and time.monotonic() < ends:
        began = time.monotonic()
        lower = max(since, min(until.at, now) - width)
        try:
            # After the timeout, PostgreSQL cancels the query, and the connection can be used again.
            rows = await connection.fetch(
                SLICE, lower, until.at, until.seq, sender, limit + 1 - len(found), timeout=patience
            )
        except asyncpg.InterfaceError:
            if not was_cut:
                raise
            break  # the query could not be cancelled, and the connection was closed with it
        except TimeoutError:
            was_cut = True
            width, patience = width / _NARROWER, min(patience * 2, SLICE_SECONDS)
            continue
        found += [_found(row) for row in rows]
        if len(found) > limit:
            last = found[limit - 1]
            return RecentPage(found[:limit], RecentPlace(last.created_at, last.seq))
        until = RecentPlace(lower, 0)
        if time.monotonic() - began < _QUICK:
            width = min(width * _WIDER, until.at - _BEGINNING + _FIRST_SLICE)
    if until == begun and until.at > since:
        raise TooSlow(f"PostgreSQL read no slice of the messages within {SECONDS:g} s")
    return RecentPage(found, until if until.at > since else None)


def _found(row: Any) -> RecentMessage:
    return RecentMessage(
        str(row["id"]),
        row["conversation_id"],
        row["sender_id"],
        row["client_message_id"],
        row["correlation_id"],
        row["accepted_at"],
        _aware(row["created_at"]),
        row["seq"],
    )


def _aware(moment: datetime) -> datetime:
    """Return ``moment`` with its offset, which asyncpg leaves out of PostgreSQL's infinities."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
