"""Metrics of appends: records appended, records rescued after a failover, seconds throttled."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from otel.latency import exemplar_of
from otel.metrics import Metrics
from otel.tracing.context import sampled_trace_id
from transport.contract import Appended, Envelope, Outcome, Transport
from transport.features.rescuing import rescuing
from transport.features.throttling import throttling
from transport.message.envelope import HEADER_TRACEPARENT

__all__ = ["AppendMetrics", "TransportMetrics", "count_rescued", "count_throttled"]


class TransportMetrics:
    """Metrics of appends to the logs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.enqueued = Counter(
            "stream_enqueue",
            "Records appended to the log.",
            ("transport", "partition"),
            registry=registry,
        )
        self.rescued = Counter(
            "stream_rescued",
            "Acknowledged records that a failover lost, appended again by this process.",
            ("transport",),
            registry=registry,
        )
        self.throttled = Counter(
            "stream_throttled_seconds",
            "Seconds for which the log's server asked this process to send nothing (a quota).",
            ("transport",),
            registry=registry,
        )


class AppendMetrics:
    """Counts appends to the log ``name``, by partition. An ``AppendObserver``."""

    def __init__(self, metrics: Metrics, name: str, partitions: int) -> None:
        enqueued = metrics.of(TransportMetrics).enqueued
        # Made once, since looking a child up by its labels costs more than counting; and at zero,
        # so that rate() sees the first append.
        self._appended = [enqueued.labels(name, str(p)) for p in range(partitions)]

    def published(
        self,
        envelopes: Sequence[Envelope],
        outcomes: Sequence[Outcome],
        began: int,  # noqa: ARG002 - the observer's
    ) -> None:
        """Count the envelopes that were appended."""
        per_partition: dict[int, int] = {}
        first: dict[int, Envelope] = {}
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if type(outcome) is Appended:
                partition = envelope.partition
                count = per_partition.get(partition, 0)
                per_partition[partition] = count + 1
                if not count:
                    first[partition] = envelope
        for partition, count in per_partition.items():
            header = first[partition].headers.get(HEADER_TRACEPARENT)
            exemplar = exemplar_of(sampled_trace_id(header)) if header else None
            self._appended[partition].inc(count, exemplar)

    def interrupted(self, envelopes: Sequence[Envelope], error: BaseException, began: int) -> None:
        """Count nothing: whether anything was appended is not known."""


def count_rescued(metrics: Metrics, log: Transport) -> None:
    """Count the records that ``log`` appends again after a failover, if it does so."""
    counter = metrics.of(TransportMetrics).rescued.labels(log.name)
    if (rescuer := rescuing(log)) is not None:
        rescuer.on_rescued = counter.inc


def count_throttled(metrics: Metrics, log: Transport) -> None:
    """Count the seconds for which the server of ``log`` slows it down, if that server may."""
    if (throttled := throttling(log)) is not None:
        throttled.on_throttled = metrics.of(TransportMetrics).throttled.labels(log.name).inc
