"""A process's own row in ``processes``: written every two seconds, removed at a clean stop.

With it ``crossfade migrate`` sees that every process has taken a step. It costs one statement every
two seconds, and nothing for a message. While PostgreSQL is down, the process works on, and counts
as missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import structlog

from persistence.database.outage import Paused, stopped_within
from persistence.database.pool import Pool, using
from persistence.errors import PersistenceError
from persistence.fleet.append_outage import AppendOutage
from persistence.fleet.log_identities import KNOWN, RECORD
from persistence.fleet.migration_state import COLUMNS, MigrationState, state_of
from persistence.fleet.processes import LIVE_SECONDS
from persistence.fleet.retired_logs import RETIRED, read_retired, refuse_retired
from persistence.fleet.used_logs import NOTE
from persistence.sequences import MARK
from transport.message.envelope import NEWEST_VERSION

__all__ = [
    "BEAT_SECONDS",
    "PRESENCE_SECONDS",
    "Heartbeat",
    "HeartbeatReport",
    "Identity",
    "is_alive",
    "machine",
]

_log = structlog.get_logger(__name__)

BEAT_SECONDS = 2.0
# A short limit, because messages need the same pool. It bounds a beat with its wait for a
# connection, and then the removal of dead processes.
_WITHIN = 1.0
_GOODBYE_WITHIN = 0.8

PRESENCE_SECONDS = BEAT_SECONDS + 2 * _WITHIN
"""After this time, each live process was seen, or has read everything recorded before."""

# Writes the process's report, its log, the logs that it met, and how far messages are numbered.
# Reads the migration's state, the log that each name means, which of its logs were retired, and
# which processes of this machine are silent.
_BEAT = f"""
WITH me AS (
    INSERT INTO processes (member, role, host, machine, pid, version, api_url, metrics_url,
        transport, transport_shadow, transport_shadow_mode, consume_from, started_at,
        payload_stores, owned, paused, shadow, followers, figures, logs, throttled,
        append_outage, envelope)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        $20, $21, $22, {NEWEST_VERSION})
    ON CONFLICT (member) DO UPDATE SET seen_at = now(), owned = excluded.owned,
        paused = excluded.paused, shadow = excluded.shadow, followers = excluded.followers,
        figures = excluded.figures, logs = excluded.logs, throttled = excluded.throttled,
        append_outage = excluded.append_outage
), noted AS ({NOTE.format(transport="$9", owner="$1")}
), met AS ({RECORD.format(logs="$20")}
), marked AS ({MARK}
), silent AS (
    SELECT array_agg(member) AS members, array_agg(pid) AS pids FROM processes
    WHERE machine = $4 AND member <> $1 AND abs(extract(epoch FROM now() - seen_at)) > $23
)
SELECT silent.members, silent.pids, ({KNOWN}) AS known,
    ({RETIRED.format(which="name = ANY($24::text[])")}) AS retired, {COLUMNS}
FROM silent LEFT JOIN migration ON true
"""  # noqa: S608 - constants only

_GOODBYE = "DELETE FROM processes WHERE member = ANY($1::text[])"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The constant part of a process's row. See ``persistence.fleet.processes.Process``."""

    member: str
    role: str
    host: str
    machine: str | None
    pid: int
    version: str
    api_url: str
    metrics_url: str
    transport: str
    transport_shadow: str | None
    transport_shadow_mode: str | None
    consume_from: str
    started_at: datetime
    payload_stores: Sequence[str] = ()


class HeartbeatReport(msgspec.Struct, frozen=True):
    """The changing part of a process's row: partitions, outages, logs, quotas, appends."""

    owned: dict[str, dict[str, int]] = {}
    paused: list[Paused] = []
    shadow: dict[str, Any] | None = None
    followers: dict[str, Any] | None = None
    figures: dict[str, Any] | None = None
    logs: Mapping[str, str | None] | None = None
    throttled: Mapping[str, float] | None = None
    append_outage: AppendOutage | None = None


Heard = Callable[[MigrationState | None], Awaitable[None]]


class Heartbeat:
    """Writes this process's row every ``interval`` seconds, and reads the migration's state.

    ``report`` is called for each beat and must be cheap. ``heard`` gets the migration's row after
    each beat that PostgreSQL answered; ``known`` gets the recorded identity of the log that each
    name means. ``died`` gets the number of dead processes whose rows this one removed. If several
    processes look, only one of them reports each death.

    Args:
        writes: Logs that the process may write. None of them may have been retired.
    """

    def __init__(
        self,
        pool: Pool,
        identity: Identity,
        report: Callable[[], HeartbeatReport],
        heard: Heard,
        *,
        known: Callable[[Mapping[str, str]], None] = lambda _: None,
        died: Callable[[int], None] = lambda _: None,
        writes: Collection[str] = (),
        interval: float = BEAT_SECONDS,
    ) -> None:
        self._pool = pool
        self._identity = identity
        self._report = report
        self._heard = heard
        self._known = known
        self._died = died
        self._writes = sorted(writes)
        self._interval = interval
        self._unheard = False

    async def run(self, stop: asyncio.Event) -> None:
        """Write heartbeats until ``stop`` is set, then remove the row.

        Raises:
            ConfigurationError: a log that the process writes was retired. The row stays as long as
                the process may write.
        """
        while not stop.is_set():
            await self.beat()
            await stopped_within(stop, self._interval)
        await self.leave()

    async def leave(self) -> None:
        """Remove the row of a process that has stopped."""
        await self._remove([self._identity.member], within=_GOODBYE_WITHIN)

    async def beat(self) -> None:
        """Write one heartbeat. An outage is logged once, and otherwise ignored.

        Raises:
            ConfigurationError: a log that the process writes was retired.
        """
        me, report = self._identity, self._report()
        until = time.monotonic() + _WITHIN
        try:
            async with using(self._pool, within=_WITHIN) as connection:
                row = await connection.fetchrow(
                    _BEAT,
                    *msgspec.structs.astuple(me),
                    *(_json(part) for part in msgspec.structs.astuple(report)),
                    LIVE_SECONDS,
                    self._writes,
                    timeout=until - time.monotonic(),
                )
                assert row is not None
            refuse_retired(read_retired(row["retired"]))
            self._known(msgspec.json.decode(row["known"] or "{}", type=dict[str, str]))
            await self._heard(state_of(row) if row["phase"] is not None else None)
        except PersistenceError as error:
            if not self._unheard:
                _log.warning(
                    "Heartbeat failed: other processes do not see this one; will retry",
                    error=str(error),
                )
            self._unheard = True
            return
        self._unheard = False
        await self._bury(row)

    async def _bury(self, row: asyncpg.Record) -> None:
        """Remove the rows of processes of this machine that no longer exist.

        Silence alone proves nothing: a process that is cut off from PostgreSQL goes on accepting.
        """
        silent = zip(row["members"] or (), row["pids"] or (), strict=True)
        if dead := [member for member, pid in silent if not is_alive(pid)]:
            _log.info("Removing the heartbeats of dead processes of this machine", members=dead)
            self._died(await self._remove(dead, within=_WITHIN))

    async def _remove(self, members: list[str], *, within: float) -> int:
        """Remove the rows; return how many were still there."""
        with contextlib.suppress(PersistenceError, TimeoutError):
            async with asyncio.timeout(within), using(self._pool, within=within) as connection:
                status = await connection.execute(_GOODBYE, members)
                return int(status.rpartition(" ")[2])
        return 0


def machine() -> str | None:
    """Return the scope in which process ids can be compared; ``None`` if not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def is_alive(pid: int) -> bool:
    """Return whether a process with this id exists, or may exist."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
