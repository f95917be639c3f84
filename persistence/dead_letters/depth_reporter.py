"""Report how many dead letters wait: in the table for a decision, in the log for the table.

Every process reports the same numbers, so they outlive any one process. Over several processes take
the largest, never a sum. An unknown number is absent, never zero.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from otel.metrics import Metrics
from persistence.database.pool import Pool, using
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.errors import PersistenceError
from transport.contract import DLQ_GROUP, Reason, Topic, Transport
from transport.errors import TransportError

__all__ = ["DepthReporter"]

_MOST = 100_000
"""The count ends here: a larger number would change no decision."""
_WITHIN = 5.0

_COUNT = f"""
    SELECT reason, count(*) AS letters
    FROM (SELECT reason FROM dead_letters WHERE state = 'pending' LIMIT {_MOST}) AS waiting
    GROUP BY reason
"""  # noqa: S608 - a constant


class DepthReporter:
    """Sets the depth gauges every ``interval`` seconds."""

    def __init__(
        self, pool: Pool, logs: Sequence[Transport], metrics: Metrics, *, interval: float = 15.0
    ) -> None:
        self._pool = pool
        self._logs = logs
        self._metrics = metrics.of(DeadLetterMetrics)
        self._interval = interval

    async def run(self, stop: asyncio.Event) -> None:
        """Report until ``stop`` is set."""
        while not stop.is_set():
            await self.report()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval)

    async def report(self) -> None:
        """Query once and set every gauge. Other modules report outages, with their reasons."""
        await asyncio.gather(self._in_table(), *(self._in_log(log) for log in self._logs))

    async def _in_table(self) -> None:
        depth = self._metrics.depth
        try:
            async with asyncio.timeout(_WITHIN), using(self._pool) as connection:
                rows = await connection.fetch(_COUNT)
        except (PersistenceError, TimeoutError):
            depth.clear()
            return
        found = {row["reason"]: row["letters"] for row in rows}
        for reason in {*found, *(reason.value for reason in Reason)}:
            depth.labels(reason).set(found.get(reason, 0))

    async def _in_log(self, log: Transport) -> None:
        unindexed = self._metrics.unindexed
        try:
            progress = await log.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        except TransportError:
            lags: list[int | None] = [None]
        else:
            lags = [entry.lag for entry in progress]
        if None in lags:
            with contextlib.suppress(KeyError):
                unindexed.remove(log.name)
        else:
            unindexed.labels(log.name).set(sum(lag for lag in lags if lag is not None))
