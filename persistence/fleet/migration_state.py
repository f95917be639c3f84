"""The state of the migration, for everyone to read. Only ``migration_guide`` changes it."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import msgspec

from persistence.database.pool import Pool, using
from persistence.fleet.log_choice import LogPair
from persistence.timestamps import rfc3339

__all__ = ["COLUMNS", "MigrationEvent", "MigrationState", "Queued", "history", "state", "state_of"]

COLUMNS = """
phase, target, epoch, changed_at, changed_by, why, reached_at, queued, old_log, new_log
"""

_STATE = f"SELECT {COLUMNS} FROM migration"  # noqa: S608 - constants only

_HISTORY = """
SELECT id, at, epoch, kind, from_phase, to_phase, who, why, gates, overrides, old_log, new_log
FROM migration_events ORDER BY id DESC LIMIT $1
"""


class Queued(msgspec.Struct, frozen=True, rename="camel"):
    """A step that waits for its gates. Times are RFC 3339, UTC.

    ``seen_at`` is the waiting process's last heartbeat. ``red`` names the gates that it waits for.
    """

    to: int
    who: str
    why: str
    at: str
    until: str
    seen_at: str
    red: list[str]


class MigrationState(msgspec.Struct, frozen=True, rename="camel"):
    """The row of ``migration``. Times are RFC 3339, UTC; phases are numbers from 0 to 5.

    ``pair`` names the two logs of the phases. While ``target`` differs from ``phase``, the
    processes are being restarted from ``phase`` to ``target``. Otherwise every process was seen on
    ``phase``.
    """

    phase: int
    target: int
    epoch: int
    changed_at: str
    changed_by: str
    why: str
    reached_at: str
    queued: Queued | None
    pair: LogPair

    @property
    def under_way(self) -> bool:
        """Whether a step is under way."""
        return self.phase != self.target

    @property
    def expected(self) -> frozenset[int]:
        """The phases that a process is expected to be on now."""
        return frozenset({self.phase, self.target})

    @property
    def tolerated(self) -> frozenset[int]:
        """The phases that a process may be on without a warning: the queued step's, too."""
        return self.expected | ({self.queued.to} if self.queued else set())


class MigrationEvent(msgspec.Struct, frozen=True, rename="camel"):
    """One event of the history. ``kind``: see ``persistence.tables.migration``."""

    id: int
    at: str
    epoch: int
    kind: str
    from_phase: int
    to_phase: int
    who: str
    why: str
    gates: list[dict[str, Any]] | None
    overrides: dict[str, str] | None
    pair: LogPair


async def state(pool: Pool, *, within: float | None = None) -> MigrationState | None:
    """Return the migration's state; ``None`` if no process has ever started.

    ``within`` bounds, in seconds, the wait for a connection and the wait for its answer.
    """
    async with using(pool, within=within) as connection:
        row = await connection.fetchrow(_STATE, timeout=within)
    return state_of(row) if row else None


async def history(pool: Pool, limit: int = 50) -> list[MigrationEvent]:
    """Return the migration's events, newest first."""
    async with using(pool) as connection:
        rows = await connection.fetch(_HISTORY, limit)
    return [
        MigrationEvent(
            id=row["id"],
            at=rfc3339(row["at"]),
            epoch=row["epoch"],
            kind=row["kind"],
            from_phase=row["from_phase"],
            to_phase=row["to_phase"],
            who=row["who"],
            why=row["why"],
            gates=_decoded(row["gates"]),
            overrides=_decoded(row["overrides"]),
            pair=LogPair(row["old_log"], row["new_log"]),
        )
        for row in rows
    ]


def state_of(row: asyncpg.Record) -> MigrationState:
    """Return the state in a row of ``COLUMNS``."""
    queued = row["queued"]
    return MigrationState(
        phase=row["phase"],
        target=row["target"],
        epoch=row["epoch"],
        changed_at=rfc3339(row["changed_at"]),
        changed_by=row["changed_by"],
        why=row["why"],
        reached_at=rfc3339(row["reached_at"]),
        queued=msgspec.json.decode(queued, type=Queued) if queued else None,
        pair=LogPair(row["old_log"], row["new_log"]),
    )


def _decoded(value: str | None) -> Any:
    return None if value is None else json.loads(value)
