"""How far the workers are, as gauges. Unknown is unknown, never zero.

Every process reports every partition, so that the figures outlive any one of them; over several
processes take ``max by (transport, partition)``, never a sum.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from prometheus_client import Gauge

from otel.metrics import Metrics
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.errors import TransportError

__all__ = ["LagReporter"]

log = structlog.get_logger(__name__)


class LagReporter:
    """Sets the lag gauges from :meth:`Transport.progress` every ``interval`` seconds."""

    def __init__(self, transport: Transport, metrics: Metrics, *, interval: float = 5.0) -> None:
        self._transport = transport
        self._metrics = metrics
        self._interval = interval
        self._unknown = False

    async def run(self, stop: asyncio.Event) -> None:
        """Report until ``stop`` is set. A log that can't be asked makes the figures unknown."""
        while not stop.is_set():
            await self.report()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval)

    async def report(self) -> None:
        """Ask once and set every gauge."""
        try:
            progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except TransportError as error:
            if not self._unknown:
                log.warning("Lag unknown", transport=self._transport.name, error=str(error))
            self._unknown = True
            for partition in range(self._transport.partitions):
                self._set(Progress(partition, None, None, None, None, None), lost=None)
        else:
            self._unknown = False
            for one in progress:
                self._set(one, lost=one.lost)

    def _set(self, progress: Progress, *, lost: int | None) -> None:
        labels = (self._transport.name, str(progress.partition))
        metrics = self._metrics
        _set_or_remove(metrics.lag, labels, progress.lag)
        _set_or_remove(metrics.pending, labels, progress.pending)
        _set_or_remove(metrics.oldest_age, labels, progress.oldest_age)
        metrics.lag_unknown.labels(*labels).set(progress.lag is None)
        if lost is not None:  # a loss that was seen stays seen while the log can't be asked
            metrics.lost.labels(*labels).set(lost)


def _set_or_remove(gauge: Gauge, labels: tuple[str, str], value: float | None) -> None:
    if value is None:
        # An absent series can't be mistaken for an idle partition.
        with contextlib.suppress(KeyError):
            gauge.remove(*labels)
    else:
        gauge.labels(*labels).set(value)
