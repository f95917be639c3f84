"""The sampler of the console's status: it asks all logs and PostgreSQL once a second.

A process has one sampler for all clients. It runs while a client follows; otherwise it takes one
sample for a request. Other processes report in their heartbeats, so the console of any process
shows all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from ingress.console.health.sentences import Reported, sentences
from ingress.console.health.stores import Check
from ingress.console.readings import Readings, WatchedLog
from ingress.console.views import (
    Database,
    HistoryPoint,
    Latency,
    LogView,
    MigrationBrief,
    ProcessView,
    Sentence,
    Status,
)
from ingress.schema.responses import encode
from otel.figures import quantile
from otel.rounds import completed
from persistence.database.pool import Pool, using
from persistence.errors import Outage
from persistence.fleet import migration_state
from persistence.fleet.append_outage import AppendOutage
from persistence.fleet.log_identities import AnotherLog, known_identities, met_another_log
from persistence.fleet.missing_copies import MissingCopies, missing_now
from persistence.fleet.processes import Process, processes, strays
from persistence.jobs.job import StalledJob
from persistence.jobs.table import stalled
from persistence.ownership.fences import owners
from persistence.reads import overview
from persistence.retention.archives import ArchiveTable
from persistence.store.row_losses import row_losses
from persistence.store.standstill import standstill
from transport.clock import now as now_text
from transport.errors import one_line

__all__ = ["Sampler", "with_role"]

_log = structlog.get_logger(__name__)

_HISTORY = 180
_FIGURES_SECONDS = 10.0
_LONGEST_PAUSE = 5.0
"""The most seconds between two events: the client's key is checked before each event."""


class _InDatabase(NamedTuple):
    """What PostgreSQL answered: all but its own state is ``None`` or empty if it did not."""

    database: Database
    processes: list[Process] | None = None
    letters: overview.Letters | None = None
    migration: migration_state.MigrationState | None = None
    another_logs: Mapping[str, AnotherLog] = MappingProxyType({})
    jobs: Sequence[StalledJob] = ()
    missing: MissingCopies | None = None
    owners: Mapping[str, Mapping[int, str]] = MappingProxyType({})


class Sampler:
    """Takes ``Status`` samples while clients follow. ``close`` ends every ``follow``.

    Args:
        logs: The logs to show, each with its roles.
        pool: Connections to PostgreSQL, for processes, dead letters and the migration.
        seen_by: This process's name.
        checks: Checks of further servers.
        interval: Seconds between samples.
        timeout_seconds: The longest wait for a log or for PostgreSQL.
        linger: Seconds to go on without clients, so that a reloaded page still has its history.
    """

    def __init__(
        self,
        logs: Sequence[WatchedLog],
        pool: Pool,
        *,
        seen_by: str,
        checks: Sequence[Check] = (),
        interval: float = 1.0,
        timeout_seconds: float = 2.0,
        linger: float = 15.0,
    ) -> None:
        self._readings = [Readings(log, timeout_seconds=timeout_seconds) for log in logs]
        self._pool = pool
        self._seen_by = seen_by
        self._checks = checks
        self._interval = interval
        self._linger = linger
        self._timeout = timeout_seconds
        self._latest: Status | None = None
        self._taken = 0.0
        self._taking = asyncio.Lock()
        self._history: deque[HistoryPoint] = deque(maxlen=_HISTORY)
        self._encoded = b""
        self._tick = asyncio.Event()
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_running(self) -> bool:
        """Whether samples are taken: while a client follows, and for a moment after."""
        return self._task is not None and not self._task.done()

    async def status(self) -> Status:
        """Return a status of the last 1.5 intervals, with the history."""
        status = await self._fresh()
        return replace(status, history=list(self._history))

    async def glance(self, *, age: float | None = None) -> Status:
        """Return a status of the last ``age`` seconds, without adding it to the history.

        The history's points are one interval apart, and an occasional sample must not be among
        them. ``age`` is 1.5 intervals if it is not given.
        """
        return await self._fresh(noted=False, age=age)

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield a status as JSON at once, then each new one, until the sampler is closed.

        If no new one comes for some seconds, the last one is yielded again. Nothing is queued: a
        slow client misses some.
        """
        self._followers += 1
        try:
            await self._fresh()
            if not self.is_running:
                self._task = asyncio.create_task(self._run())
            while not self._closed:
                tick = self._tick
                yield self._encoded
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_PAUSE):
                        await tick.wait()
        finally:
            self._followers -= 1

    async def close(self) -> None:
        """Stop sampling, and end every ``follow``."""
        self.end()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def end(self) -> None:
        """End every ``follow`` soon, so that the server can stop."""
        self._closed = True
        self._tick.set()

    async def _run(self) -> None:
        last_seen = time.monotonic()
        while not self._closed:
            began = time.monotonic()
            if self._followers:
                last_seen = began
            elif began - last_seen > self._linger:
                break  # the next client starts a new task
            await completed(
                self._take(), _log, "Console sample failed: its figures are stale; will retry"
            )
            await asyncio.sleep(max(0.0, self._interval - (time.monotonic() - began)))

    async def _fresh(self, *, noted: bool = True, age: float | None = None) -> Status:
        longest = 1.5 * self._interval if age is None else age
        if self._latest is None or time.monotonic() - self._taken > longest:
            await self._take(noted=noted)
        assert self._latest is not None
        return self._latest

    async def _take(self, *, noted: bool = True) -> None:
        before = self._taken
        async with self._taking:
            if self._taken != before:
                return  # another task has just taken a sample
            _, database, checked = await asyncio.gather(
                asyncio.gather(*(log.take() for log in self._readings)),
                self._ask_database(),
                asyncio.gather(*(check(self._timeout) for check in self._checks)),
            )
            status = self._status(database, [found for found in checked if found])
            if noted:
                self._history.append(_point(status))
            self._latest, self._taken = status, time.monotonic()
            self._encoded = encode(status)
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()

    async def _ask_database(self) -> _InDatabase:
        try:
            async with asyncio.timeout(self._timeout):
                known = await known_identities(self._pool)
                there = await processes(self._pool, within=self._timeout)
                letters = await overview.letters(self._pool, within=self._timeout)
                state = await migration_state.state(self._pool, within=self._timeout)
                waits = await ArchiveTable(self._pool).waits()
                async with using(self._pool, within=self._timeout) as connection:
                    found = await standstill(connection)
                    owned_by = await owners(connection)
                    jobs = await stalled(connection)
                    missing = await missing_now(connection, state) if state else None
                    losses = tuple(await row_losses(connection))
        except (Outage, TimeoutError) as error:
            message = one_line(error, empty=f"no answer in {self._timeout:g} s")
            return _InDatabase(Database(up=False, error=message))
        why, remedy = found or (None, None)
        database = Database(
            up=True, error=why, remedy=remedy, archive_waits=waits, row_losses=losses
        )
        others = met_another_log(there, known)
        return _InDatabase(database, there, letters, state, others, jobs, missing, owned_by)

    def _status(self, found: _InDatabase, checked: Sequence[Sentence]) -> Status:
        database, there, letters, state, another_logs, jobs, missing, owned_by = found
        logs = [log.view(owned_by.get(log.log.transport.name, {})) for log in self._readings]
        shown = None if there is None else [_process(process) for process in there]
        return Status(
            at=now_text(),
            seen_by=self._seen_by,
            logs=logs,
            database=database,
            processes=shown,
            ack=_latency(there, "ack"),
            persist=_latency(there, "persist"),
            dead_letters=letters,
            migration=MigrationBrief.of(state) if state else None,
            health=sentences(
                logs,
                database,
                shown,
                letters,
                reported=Reported(
                    throttled=_throttled(there),
                    append_outages=_append_outages(there),
                    strays=len(strays(there, state)) if there and state else 0,
                    another_logs=another_logs,
                    checked=checked,
                    jobs=jobs,
                    missing=missing,
                ),
                now=datetime.now(UTC),
            ),
            history=[],
        )


def _process(process: Process) -> ProcessView:
    shadow = f", shadow {process.transport_shadow} {process.transport_shadow_mode}"
    return ProcessView(
        member=process.member,
        role=process.role,
        host=process.host,
        pid=process.pid,
        version=process.version,
        phase=process.phase,
        settings=f"{process.transport}{shadow if process.transport_shadow else ''}, reads "
        f"{process.consume_from}",
        owned={name: sorted(int(p) for p in owned) for name, owned in process.owned.items()},
        paused=process.paused,
        started_at=process.started_at,
        silent_seconds=round(process.silent_seconds, 1),
        live=process.live,
        shadow=process.shadow,
        followers=process.followers,
    )


def _throttled(there: list[Process] | None) -> dict[str, list[float]]:
    """Return the latest waits that each log's quota caused, one for each live process."""
    waits: dict[str, list[float]] = defaultdict(list)
    for process in there or ():
        if process.live:
            for name, seconds in (process.throttled or {}).items():
                waits[name].append(seconds)
    return waits


def _append_outages(there: list[Process] | None) -> list[AppendOutage]:
    """Return the outages of live processes that can't append to their primaries."""
    live = (process.append_outage for process in there or () if process.live)
    return [outage for outage in live if outage is not None]


def _latency(there: list[Process] | None, name: str) -> Latency | None:
    """Return the latency over all live processes, from the sum of their histograms."""
    if there is None:
        return None
    reports = [
        process.figures[name]
        for process in there
        if process.live and process.figures and name in process.figures
    ]
    counts = [sum(column) for column in zip(*reports, strict=False)]
    return Latency(
        per_second=round(sum(counts) / _FIGURES_SECONDS, 1),
        p50=quantile(counts, 0.5),
        p99=quantile(counts, 0.99),
    )


def _point(status: Status) -> HistoryPoint:
    primary = with_role(status.logs, "primary")
    read = with_role(status.logs, "consumed")
    return HistoryPoint(
        at=status.at,
        in_rate=primary.in_rate if primary else None,
        out_rate=read.out_rate if read else None,
        lag=read.lag if read else None,
        oldest=_oldest(read) if read else None,
    )


def _oldest(log: LogView) -> float | None:
    ages = [partition.oldest_age for partition in log.partitions]
    known = [age for age in ages if age is not None]
    return max(known, default=0.0) if len(known) == len(ages) else None


def with_role(logs: Sequence[LogView], role: str) -> LogView | None:
    """Return the first log with ``role``, or ``None``."""
    return next((log for log in logs if role in log.roles), None)
