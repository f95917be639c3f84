"""The charts' data of the last hour, kept in this process: a point every ten seconds."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from ingress.console.sampler import Sampler, with_role
from ingress.console.views import Hour, HourPoint, Status
from otel.rounds import completed

__all__ = ["LastHour"]

_STEP = 10.0
_log = structlog.get_logger(__name__)


class LastHour:
    """Takes a point from the sampler every ten seconds, from ``start`` to ``close``.

    It does so whether a client follows or not. A point has sums over all processes, and each
    process keeps points of its own.

    Args:
        sampler: Takes the samples.
        seen_by: The name of this process.
        grafana_url: The URL of the dashboards, if there are any.
        step: Seconds between two points.
        points: The most points to keep.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        seen_by: str,
        grafana_url: str | None,
        step: float = _STEP,
        points: int = 360,
    ) -> None:
        self._sampler = sampler
        self._seen_by = seen_by
        self._grafana_url = grafana_url
        self._step = step
        self._points: deque[HourPoint] = deque(maxlen=points)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take points, in the running event loop. The first comes after one step."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop taking points."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def view(self) -> Hour:
        """Return the points kept so far, oldest first."""
        return Hour(
            seen_by=self._seen_by,
            step_seconds=self._step,
            points=list(self._points),
            grafana_url=self._grafana_url,
        )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._step, loop.time())
            await asyncio.sleep(due - loop.time())
            await completed(
                self._add_point(), _log, "Console sample failed: its charts get a gap; will retry"
            )

    async def _add_point(self) -> None:
        point = _point(await self._sampler.glance())
        if not self._points or self._points[-1].at != point.at:
            self._points.append(point)


def _point(status: Status) -> HourPoint:
    written, read = with_role(status.logs, "primary"), with_role(status.logs, "consumed")
    return HourPoint(
        at=status.at,
        accepted=written.in_rate if written else None,
        persisted=read.out_rate if read else None,
        waiting=read.lag if read else None,
        dead_letters=status.dead_letters.pending if status.dead_letters else None,
        answered_p99=status.ack.p99 if status.ack else None,
        written_p99=status.persist.p99 if status.persist else None,
    )
