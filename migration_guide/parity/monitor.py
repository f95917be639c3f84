"""The parity monitor: compares the two logs while the service runs, in one process at a time.

Every process with a shadow and with workers runs a monitor. The one that holds a lock in PostgreSQL
compares, with connections of its own and a small part of one processor, and writes its findings to
``parity_reports``, a row a minute. Its successor begins at the time before which everything was
judged, ten minutes back at most. So a restart or a crash leaves nothing out, and no missing record
is counted twice. Records that had matched in the last seconds before that time (``settle``) are
counted by both.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing
from datetime import datetime
from uuid import uuid4

import msgspec
import structlog

from migration_guide.mirrored import mirrored_since
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.follower import Follower
from migration_guide.parity.log_look import look_at
from migration_guide.parity.metrics import ParityMetrics
from migration_guide.parity.result import ParityCounts, ParityResult
from otel.metrics import Metrics
from persistence import parity_reports
from persistence.database.outage import stopped_within
from persistence.database.pool import Connection, Pool
from persistence.database.translation import translated
from persistence.errors import PersistenceError
from persistence.fleet.leader_lock import elected
from persistence.parity_reports import ParityReport
from transport.clock import timestamp
from transport.contract import Transport
from transport.errors import ConfigurationError, TransportError

__all__ = ["ParityMonitor"]

_log = structlog.get_logger(__name__)

_CANDIDATE_SECONDS = 5.0
_ROUND_SECONDS = 5.0  # half of the time that a copy may take
_ROW_SECONDS = 60.0
_LOOKBACK_SECONDS = 600.0
_SHARE = 0.125  # of a processor: some 4,500 messages a second


class ParityMonitor:
    """Compares ``primary`` and ``shadow`` while this process holds the lock.

    Args:
        make: Returns a new transport by name, not entered: the monitor reads by its own
            connections.
        primary: The name of the log with the originals.
        shadow: The name of the log with their copies.
        pool: For the election and the report.
        metrics: Metrics of this process.
        member: This process's name.
        limits: How long copies may take, and how much is kept.
        interval: Seconds between rounds.
    """

    def __init__(
        self,
        make: Callable[[str], Transport],
        *,
        primary: str,
        shadow: str,
        pool: Pool,
        metrics: Metrics,
        member: str,
        limits: ParityLimits | None = None,
        interval: float = _ROUND_SECONDS,
    ) -> None:
        self._make = make
        self._primary = primary
        self._shadow = shadow
        self._pool = pool
        self._metrics = metrics.of(ParityMetrics)
        self._member = member
        self._limits = limits or ParityLimits()
        self._interval = interval
        self._failing = False
        self.is_comparing = False

    async def run(self, stop: asyncio.Event) -> None:
        """Compare, or wait for the lock, until ``stop`` is set."""
        what = f"parity {self._primary} {self._shadow}"
        while not stop.is_set():
            try:
                async with elected(self._pool, what) as connection:
                    if connection is not None:
                        await self._keep(connection, stop)
            except (ConfigurationError, TransportError, PersistenceError, TimeoutError) as error:
                # A ConfigurationError may pass, too: somebody may alter a topic, and alter it back.
                if not self._failing:
                    _log.warning("Parity comparison failed; will retry", error=str(error))
                self._failing = True
            finally:
                self.is_comparing = False
                self._metrics.forget()
            await stopped_within(stop, _CANDIDATE_SECONDS if self._interval >= 1 else 0.1)

    async def _keep(self, connection: Connection, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            logs = [
                await stack.enter_async_context(self._make(name))
                for name in (self._primary, self._shadow)
            ]
            since = await self._since()
            while await self._follow(connection, logs, since, stop):
                since = time.time() - _LOOKBACK_SECONDS

    async def _follow(
        self, connection: Connection, logs: Sequence[Transport], since: float, stop: asyncio.Event
    ) -> bool:
        """Compare from ``since`` on; return whether it ended because a log lost records."""
        look = await look_at(logs)
        follower = Follower(
            logs[0],
            logs[1],
            since=since,
            limits=self._limits,
            share=_SHARE,
            found=self._count,
        )
        with closing(follower):
            await follower.start()
            self.is_comparing = True
            _log.info("Parity comparison started", primary=self._primary, shadow=self._shadow)
            rows = _ReportRows(connection, follower, self._primary, self._shadow, self._member)
            while True:
                follower.mirrored(await mirrored_since(self._pool))
                await follower.round(look=look)
                with translated():
                    await rows.write()
                self._show(follower, rows)
                self._failing = False
                if await stopped_within(stop, self._interval):
                    return False
                before, look = look, await look_at(logs)
                if look.lost > before.lost:
                    # The offsets to read on from may be those of other records by now.
                    _log.warning(
                        "Parity comparison restarted: a log lost records", seconds=_LOOKBACK_SECONDS
                    )
                    return True

    async def _since(self) -> float:
        """Return the time to begin at: where an earlier monitor ended, ten minutes ago at most.

        It is never later than now: an earlier monitor's clock may have been ahead.
        """
        now = time.time()
        last = await parity_reports.latest(self._pool, self._primary, self._shadow, kind="running")
        judged = _seconds(last.until) if last else 0.0
        return min(max(now - _LOOKBACK_SECONDS, judged), now)

    def _count(self, result: ParityResult, count: int) -> None:
        if count > 0:  # counters can't decrease: only the rows take a result back
            self._metrics.results.labels(result.value).inc(count)

    def _show(self, follower: Follower, rows: _ReportRows) -> None:
        self._metrics.show(
            (self._primary, self._shadow),
            lag=follower.lag(),
            coverage=rows.totals.coverage,
            judged=follower.judged_until,
            last_mismatch=follower.last_difference,
        )


class _ReportRows:
    """The report rows of one monitor: each has the changes of its minute."""

    def __init__(
        self, connection: Connection, follower: Follower, primary: str, shadow: str, member: str
    ) -> None:
        self._connection = connection
        self._follower = follower
        self._names = (primary, shadow)
        self._member = member
        self._written: Counter[ParityResult] = Counter()
        self._begin(follower.since or 0.0)

    def _begin(self, since: float) -> None:
        self._id = str(uuid4())
        self._since = since
        self._begun = time.monotonic()
        self._samples: list[dict[str, object]] = []
        self.totals = ParityCounts()

    async def write(self) -> None:
        """Write this minute's row as it is now; when the minute is over, begin the next row."""
        follower = self._follower
        total = follower.report().totals
        open_ = total.counts.pop(ParityResult.NOT_YET_COMPARABLE, 0)
        counts = Counter(total.counts)
        change = {r: counts[r] - self._written[r] for r in counts if counts[r] != self._written[r]}
        self.totals = ParityCounts(change)
        self._samples += [msgspec.to_builtins(sample) for sample in follower.samples()]
        shown = {result.value: count for result, count in change.items()}
        shown[ParityResult.NOT_YET_COMPARABLE.value] = open_
        await parity_reports.write(
            self._connection,
            ParityReport(
                id=self._id,
                kind="running",
                primary=self._names[0],
                shadow=self._names[1],
                since=timestamp(self._since),
                until=timestamp(follower.judged_until),
                counts=shown,
                lag=follower.lag(),
                samples=self._samples[:100],
                verdict=self.totals.verdict.value,
                compared=self.totals.compared,
                coverage=self.totals.coverage,
                made_by=self._member,
            ),
        )
        if time.monotonic() - self._begun > _ROW_SECONDS:
            self._written = counts
            self._begin(follower.judged_until)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
