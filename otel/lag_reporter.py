"""The workers' lag, as gauges. Unknown is unknown, never zero.

Every process reports every partition, so that the figures outlive any one of them; over several
processes take ``max by (transport, partition)``, never a sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from prometheus_client import CollectorRegistry, Gauge

from otel.losses import Losses
from otel.metrics import Metrics
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.errors import TransportError

__all__ = ["LagMetrics", "LagReporter"]

log = structlog.get_logger(__name__)


class LagMetrics:
    """The workers' lag, by partition."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "stream_partition_lag",
            "Records appended and not yet persisted; absent while unknown.",
            ("transport", "partition"),
            registry=registry,
        )
        self.oldest_age = Gauge(
            "stream_oldest_unprocessed_age_seconds",
            "Age of the oldest record not yet persisted.",
            ("transport", "partition"),
            registry=registry,
        )
        self.lag_unknown = Gauge(
            "stream_lag_unknown",
            "1 while the lag of a partition is unknown.",
            ("transport", "partition"),
            registry=registry,
        )
        self.lost = Gauge(
            "stream_loss_detected",
            "Records that left the log unread. Anything above 0 is an incident.",
            ("transport", "partition"),
            registry=registry,
        )
        self.put_back = Gauge(
            "stream_loss_put_back",
            "Those of the lost records that were appended again since. The rest is gone.",
            ("transport", "partition"),
            registry=registry,
        )
        self.stalled = Gauge(
            "stream_partition_stalled_seconds",
            "How long records have waited while not one was persisted; absent while unknown.",
            ("transport", "partition"),
            registry=registry,
        )
        self.present = (self.lag, self.oldest_age, self.lag_unknown, self.stalled)
        """All but the losses: figures that mean nothing once the log is not asked any more."""


class LagReporter:
    """Sets the lag gauges from ``Transport.progress``.

    Args:
        transport: The log.
        metrics: Of this process.
        losses: Gets the counts of lost records, which readiness reports.
        interval: Seconds between two reports.
    """

    def __init__(
        self,
        transport: Transport,
        metrics: Metrics,
        *,
        losses: Losses | None = None,
        interval: float = 5.0,
    ) -> None:
        self._transport = transport
        self._metrics = metrics.of(LagMetrics)
        self._losses = losses
        self._interval = interval
        self._unknown = False
        self._waiting: dict[int, tuple[str | None, float]] = {}
        """Partitions where records wait: the floor as it was first seen so, and when that was."""
        self._shown: dict[int, tuple[float | None, ...]] = {}
        """The figures of each partition as they are set. Of an idle log none change."""

    async def run(self, stop: asyncio.Event) -> None:
        """Report until ``stop`` is set. A log that can't be asked makes the figures unknown."""
        while not stop.is_set():
            await self.report()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval)

    async def report(self) -> None:
        """Query once and set every gauge."""
        try:
            progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except TransportError as error:
            if not self._unknown:
                log.warning(
                    "Lag unknown: the log does not answer; will retry",
                    transport=self._transport.name,
                    error=str(error),
                )
            self._unknown = True
            for partition in range(self._transport.partitions):
                self._set(Progress(partition, None, None, None, None, unavailable=True))
        else:
            self._unknown = False
            for part in progress:
                self._set(part)
            if self._losses is not None:
                self._losses.note(self._transport.name, progress)

    def forget(self) -> None:
        """Remove the figures of a log that is not asked any more; its losses stay."""
        for partition in self._shown:
            labels = (self._transport.name, str(partition))
            for gauge in self._metrics.present:
                _set_or_remove(gauge, labels, None)
        self._shown.clear()

    def _set(self, progress: Progress) -> None:
        metrics, stalled = self._metrics, self._stalled(progress)
        figures = (
            (metrics.lag, progress.lag),
            (metrics.oldest_age, progress.oldest_age),
            (metrics.stalled, stalled),
        )
        lost = None if progress.unavailable else progress.lost
        shown = (*(value for _, value in figures), lost, progress.put_back)
        if self._shown.get(progress.partition) == shown:
            return
        self._shown[progress.partition] = shown
        labels = (self._transport.name, str(progress.partition))
        for gauge, value in figures:
            _set_or_remove(gauge, labels, value)
        metrics.lag_unknown.labels(*labels).set(progress.lag is None)
        if lost is not None:  # a loss that was seen stays seen while the log can't be asked
            metrics.lost.labels(*labels).set(lost)
            metrics.put_back.labels(*labels).set(min(lost, progress.put_back))

    def _stalled(self, progress: Progress) -> float | None:
        """Return for how long records have waited without a single one being acknowledged."""
        if progress.lag is None:
            return None
        if progress.lag == 0:
            self._waiting.pop(progress.partition, None)
            return 0.0
        floor, since = self._waiting.get(progress.partition, ("", 0.0))
        if floor != progress.floor or not since:
            since = time.monotonic()
            self._waiting[progress.partition] = (progress.floor, since)
        return time.monotonic() - since


def _set_or_remove(gauge: Gauge, labels: tuple[str, str], value: float | None) -> None:
    if value is None:
        # An absent series can't be mistaken for an idle partition.
        with contextlib.suppress(KeyError):
            gauge.remove(*labels)
    else:
        gauge.labels(*labels).set(value)
