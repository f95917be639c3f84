"""The record of operators' actions: written before the action, completed after it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import structlog

from persistence.database.pool import Connection, Pool, using
from persistence.errors import PersistenceError
from persistence.json_types import Time
from persistence.timestamps import rfc3339
from transport.errors import one_line

__all__ = ["NO_REASON", "Action", "ActionInProgress", "Actions", "record_done"]

_log = structlog.get_logger(__name__)

NO_REASON = "(no reason given)"
"""Stored if no reason was given. The console always asks for one; a program may give none."""

_LONGEST_RESULT = 1000

_BEGIN = """
INSERT INTO operator_actions (who, action, target, why) VALUES ($1, $2, $3, $4) RETURNING id
"""
_END = "UPDATE operator_actions SET result = $2, finished_at = now() WHERE id = $1"
_DONE = """
INSERT INTO operator_actions (who, action, target, why, result, finished_at)
VALUES ($1, $2, $3, $4, $5, now())
"""
_LIST = """
SELECT id, at, who, action, target, why, result, finished_at FROM operator_actions
WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
"""


class Action(msgspec.Struct, frozen=True, rename="camel"):
    """An operator's action. ``result`` is null while it is under way, or if its process died."""

    id: int
    at: Time
    who: str
    action: str
    target: str
    why: str
    result: str | None
    finished_at: Time | None


class ActionInProgress:
    """The action under way. Set ``result`` to its outcome."""

    def __init__(self) -> None:
        self.result = "done"


async def record_done(
    connection: Connection, *, who: str, action: str, target: str, why: str, result: str
) -> None:
    """Record an action that the transaction of ``connection`` does: both commit, or neither."""
    await connection.execute(_DONE, who, action, target, why, result[:_LONGEST_RESULT])


class Actions:
    """The table ``operator_actions``. Rows are never removed, and only completed with a result."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def recorded(
        self, action: str, *, who: str, target: str, why: str | None
    ) -> AsyncIterator[ActionInProgress]:
        """Record ``action`` on ``target`` before the block, and its result after it.

        Raises:
            Outage: the action can't be recorded, so the block does not run.
        """
        async with using(self._pool) as connection:
            identifier = await connection.fetchval(_BEGIN, who, action, target, why or NO_REASON)
        entry = ActionInProgress()
        try:
            yield entry
        except BaseException as error:
            await self._end(identifier, f"failed: {one_line(error)}")
            raise
        await self._end(identifier, entry.result)

    async def recent(self, *, before: int | None = None, limit: int = 50) -> list[Action]:
        """Return recorded actions, newest first; ``before`` is the last id of the page before.

        Raises:
            Outage: PostgreSQL can't answer now.
        """
        async with using(self._pool) as connection:
            rows = await connection.fetch(_LIST, before, limit)
        return [_action(row) for row in rows]

    async def _end(self, identifier: int, result: str) -> None:
        # The action is over, whatever happens here: an outage leaves its row without the result.
        with contextlib.suppress(PersistenceError, TimeoutError):
            async with using(self._pool) as connection:
                await connection.execute(_END, identifier, result[:_LONGEST_RESULT])
            return
        _log.warning(
            "Result of an operator's action not recorded: PostgreSQL failed", action=identifier
        )


def _action(row: asyncpg.Record) -> Action:
    finished_at = row["finished_at"]
    return Action(
        id=row["id"],
        at=rfc3339(row["at"]),
        who=row["who"],
        action=row["action"],
        target=row["target"],
        why=row["why"],
        result=row["result"],
        finished_at=rfc3339(finished_at) if finished_at else None,
    )
