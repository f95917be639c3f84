"""The running processes, for everyone to read. Each writes its own row (``heartbeat``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

import asyncpg
import msgspec

from persistence.database.outage import Paused
from persistence.database.pool import Pool, using
from persistence.fleet.append_outage import AppendOutage
from persistence.fleet.log_choice import FIRST_PAIR, Choice, LogPair, phase_of
from persistence.fleet.migration_state import MigrationState
from persistence.timestamps import rfc3339

__all__ = ["LIVE_SECONDS", "Process", "chosen_by", "forget", "forget_all", "processes", "strays"]

LIVE_SECONDS = 10.0
"""A process that is silent for longer is *missing*: it may have died, or be cut off and at work."""

# ``seen_at`` may be in the future, if PostgreSQL's clock was set back. A live process writes again
# in two seconds, so the distance counts in either direction.
_PROCESSES = """
SELECT processes.*, abs(extract(epoch FROM now() - seen_at))::float8 AS silent_seconds,
    old_log, new_log
FROM processes LEFT JOIN migration ON true ORDER BY started_at, member
"""

_FORGET = """
DELETE FROM processes
WHERE member = $1 AND abs(extract(epoch FROM now() - seen_at)) > $2
"""


_Partition = Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}$")]
T = TypeVar("T")


class _Shadow(TypedDict):
    name: str
    mode: str
    breaker: str
    waiting: int
    oldest_age: float
    dropped: int
    error: str
    dropped_at: NotRequired[float | None]
    unwritten: NotRequired[int | None]


class _FollowerReport(TypedDict):
    epochs: dict[_Partition, int]
    waiting: list[dict[str, Any]]
    paused: list[Paused]


class Process(msgspec.Struct, frozen=True, rename="camel"):
    """One process, as it reported itself ``silent_seconds`` ago. Times are RFC 3339, UTC.

    ``phase`` is the phase of the migration's pair that its settings amount to; ``None`` if they are
    no phase of it. ``knows_plans`` is false for a version that knows one migration only. ``owned``
    is the epoch of each partition it owns, by log. ``paused`` are the dependencies that its workers
    wait for. ``shadow`` and ``followers`` are the status of those parts, ``None`` if it has none;
    ``figures`` are its latencies. ``logs`` is the identity of each log that it knows by name,
    ``None`` for a log that it has not connected to yet. ``throttled`` has the seconds of the last
    wait for each log whose quota it has just used up. ``append_outage`` is the reason why its
    primary refuses its appends, if it does.

    Another version of the service may write its row differently: a value without the shape that
    this version reads counts as not reported.
    """

    member: str
    role: str
    host: str
    pid: int
    version: str
    api_url: str
    metrics_url: str
    phase: int | None
    knows_plans: bool
    transport: str
    transport_shadow: str | None
    transport_shadow_mode: str | None
    consume_from: str
    started_at: str
    seen_at: str
    silent_seconds: float
    owned: dict[str, dict[str, int]]
    paused: list[Paused]
    shadow: dict[str, Any] | None
    followers: dict[str, Any] | None
    figures: dict[str, Any] | None = None
    logs: dict[str, str | None] | None = None
    throttled: dict[str, float] | None = None
    append_outage: AppendOutage | None = None

    @property
    def live(self) -> bool:
        """Whether it reported itself just now."""
        return self.silent_seconds <= LIVE_SECONDS


async def processes(pool: Pool, *, within: float | None = None) -> list[Process]:
    """Return every process that has not stopped cleanly, the longest running first.

    ``within`` bounds, in seconds, the wait for a connection and the wait for its answer.
    """
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(_PROCESSES, timeout=within)
    return [_process(row) for row in rows]


def chosen_by(process: Process) -> Choice:
    """Return the settings of a process that choose its logs."""
    return Choice(
        process.transport,
        process.transport_shadow,
        process.transport_shadow_mode,
        process.consume_from,
    )


def strays(there: Iterable[Process], state: MigrationState) -> list[Process]:
    """Return the live processes whose phase the migration does not tolerate now."""
    return [process for process in there if process.live and process.phase not in state.tolerated]


async def forget(pool: Pool, member: str) -> bool:
    """Remove a missing process's row; return whether there was one. A live process's row stays."""
    async with using(pool) as connection:
        return await connection.execute(_FORGET, member, LIVE_SECONDS) == "DELETE 1"


async def forget_all(pool: Pool) -> None:
    """Remove every row while nothing can run. A live process writes it again in two seconds."""
    async with using(pool) as connection:
        await connection.execute("DELETE FROM processes")


def _process(row: asyncpg.Record) -> Process:
    pair = LogPair(row["old_log"], row["new_log"]) if row["old_log"] else FIRST_PAIR
    choice = Choice(
        row["transport"],
        row["transport_shadow"],
        row["transport_shadow_mode"],
        row["consume_from"],
    )
    return Process(
        member=row["member"],
        role=row["role"],
        host=row["host"],
        pid=row["pid"],
        version=row["version"],
        api_url=row["api_url"],
        metrics_url=row["metrics_url"],
        phase=phase_of(choice, pair),
        knows_plans=row["phase"] is None and row["logs"] is not None,
        transport=row["transport"],
        transport_shadow=row["transport_shadow"],
        transport_shadow_mode=row["transport_shadow_mode"],
        consume_from=row["consume_from"],
        started_at=rfc3339(row["started_at"]),
        seen_at=rfc3339(row["seen_at"]),
        silent_seconds=row["silent_seconds"],
        owned=_shaped(row["owned"], dict[str, dict[_Partition, int]]) or {},
        paused=_shaped(row["paused"], list[Paused]) or [],
        shadow=_as_it_is(row["shadow"], _Shadow),
        followers=_as_it_is(row["followers"], dict[str, _FollowerReport]),
        figures=_shaped(row["figures"], dict[str, list[int]]),
        logs=_shaped(row["logs"], dict[str, str | None]),
        throttled=_shaped(row["throttled"], dict[str, float]),
        append_outage=_shaped(row["append_outage"], AppendOutage),
    )


def _shaped(text: str | None, shape: type[T]) -> T | None:
    """Decode the JSON; ``None`` if it is empty or has another shape."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, RecursionError):
        return None


def _as_it_is(text: str | None, shape: type[Any]) -> dict[str, Any] | None:
    """Return a whole JSON object, if it has at least the fields of ``shape``."""
    if _shaped(text, shape) is None or text is None:
        return None
    return msgspec.json.decode(text, type=dict[str, Any])
