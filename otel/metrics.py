"""Every metric the service has, by the names the deployment guide gives them.

One instance per process, made at start and handed to whoever counts. Label children that an alert
reads are created at zero, or ``rate()`` would not see their first increment.
"""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from otel.parity_metrics import ParityMetrics
from otel.shadow_metrics import ShadowMetrics
from transport.contract import Reason

__all__ = ["Metrics"]

# Edges stand on the promises: p95 < 100 ms (guide), row within 50 ms, and long tails for outages.
_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 300.0, 900.0, 3600.0,
)  # fmt: skip


class Metrics:
    """The process's metrics, in their own registry."""

    bounds: tuple[float, ...] = _SECONDS
    """The upper bounds of every histogram's buckets; a last one, without bound, follows them."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        r = self.registry
        self.enqueued = Counter(
            "stream_enqueue", "Records appended to the log.", ("transport", "partition"), registry=r
        )
        self.processed = Counter(
            "stream_consumer_processed",
            "Records a worker finished with, by outcome.",
            ("status",),
            registry=r,
        )
        self.lag = Gauge(
            "stream_partition_lag",
            "Records appended and not yet acknowledged; absent while unknown.",
            ("transport", "partition"),
            registry=r,
        )
        self.pending = Gauge(
            "stream_partition_pending",
            "Records delivered to a worker and not yet acknowledged.",
            ("transport", "partition"),
            registry=r,
        )
        self.oldest_age = Gauge(
            "stream_oldest_unprocessed_age_seconds",
            "Age of the oldest record not yet acknowledged.",
            ("transport", "partition"),
            registry=r,
        )
        self.lag_unknown = Gauge(
            "stream_lag_unknown",
            "1 while the lag of a partition can't be told.",
            ("transport", "partition"),
            registry=r,
        )
        self.lost = Gauge(
            "stream_loss_detected",
            "Records that left the log unread. Anything above 0 is an incident.",
            ("transport", "partition"),
            registry=r,
        )
        self.stalled = Gauge(
            "stream_partition_stalled_seconds",
            "How long records have waited while not one was acknowledged; absent while unknown.",
            ("transport", "partition"),
            registry=r,
        )
        self.unowned = Gauge(
            "stream_partition_unowned",
            "1 while nobody reads the partition, by the log's own account.",
            ("transport", "partition"),
            registry=r,
        )
        self.owned = Gauge(
            "stream_partition_owned",
            "1 while this process owns the partition.",
            ("transport", "partition"),
            registry=r,
        )
        self.standby_acknowledged = Counter(
            "stream_standby_acknowledged",
            "Records of a log that is not consumed, acknowledged because they were settled.",
            ("transport",),
            registry=r,
        )
        self.standby_takeover = Counter(
            "stream_standby_takeover",
            "Records that a standby persisted itself, by why nobody else would have.",
            ("transport", "reason"),
            registry=r,
        )
        self.standby_stalled = Gauge(
            "stream_standby_stalled",
            "Partitions of this process whose standby waits too long for its next record.",
            ("transport",),
            registry=r,
        )
        self.leftover = Gauge(
            "stream_leftover",
            "1 while a log that is used, or was, and is not configured here may hold messages.",
            ("transport",),
            registry=r,
        )
        self.dead_letters = Counter(
            "stream_dead_letter", "Records dead-lettered, by reason.", ("reason",), registry=r
        )
        self.dead_letter_depth = Gauge(
            "stream_dead_letter_depth",
            "Dead letters that wait for a redrive or a discard; absent while unknown.",
            ("reason",),
            registry=r,
        )
        self.dead_letters_unindexed = Gauge(
            "stream_dead_letter_unindexed",
            "Dead letters in the log that are not in the table yet; absent while unknown.",
            ("transport",),
            registry=r,
        )
        self.dead_letters_incomplete = Counter(
            "stream_dead_letter_incomplete",
            "Dead letters that the table can't hold whole, by what their rows lack: fields, bytes, "
            "or row (there is none). The log has them whole.",
            ("lacks",),
            registry=r,
        )
        self.redriven = Counter(
            "dead_letter_redriven", "Dead letters appended to the log again.", registry=r
        )
        self.idempotency_hits = Counter(
            "idempotency_hit",
            "Repeats of a key, by where they were met.",
            ("operation",),
            registry=r,
        )
        self.idempotency_requests = Counter(
            "idempotency_requests",
            "Messages checked for repetition, by where (the denominator of the hit rate).",
            ("operation",),
            registry=r,
        )
        self.processing = Histogram(
            "stream_processing_duration_seconds",
            "From delivery to a worker to the acknowledgement after commit.",
            buckets=_SECONDS,
            registry=r,
        )
        self.end_to_end = Histogram(
            "message_persist_latency_seconds",
            "From acceptance at the ingress to the committed row.",
            buckets=_SECONDS,
            registry=r,
        )
        self.paused = Gauge(
            "stream_worker_paused",
            "1 while workers wait for a dependency to come back.",
            ("dependency",),
            registry=r,
        )
        self.processes_died = Counter(
            "crossfade_processes_died",
            "Processes of this machine that ended without a goodbye, as this one found them.",
            registry=r,
        )
        self.ingress_queue = Gauge(
            "ingress_queue_depth", "Messages waiting for the next append.", registry=r
        )
        self.ingress_shed = Counter(
            "ingress_shed", "Requests refused with 503 because the log can't keep up.", registry=r
        )
        self.ingress_failed = Counter(
            "ingress_failed",
            "Messages answered with 503 after they were handed in, by the problem's name.",
            ("problem",),
            registry=r,
        )
        self.connections_ended = Counter(
            "ingress_connections_ended",
            "Connections that the service ended, by why: a problem's name (request-timeout, ...), "
            "unread (an answer was not read), silent (nothing came), idle (its place was needed), "
            "or held (it held most of what was incomplete).",
            ("reason",),
            registry=r,
        )
        self.ingress_ack = Histogram(
            "ingress_ack_duration_seconds",
            "From handing a message in to its verdict: waiting, look-up, append and fsync.",
            buckets=_SECONDS,
            registry=r,
        )
        self.ingress_append = Histogram(
            "ingress_append_duration_seconds",
            "One group commit: look-up, append and fsync.",
            buckets=_SECONDS,
            registry=r,
        )
        self.migration_phase = Gauge(
            "migration_phase",
            "The phase (0 to 5) that every process was last seen on; NaN while unknown.",
            registry=r,
        )
        self.migration_target = Gauge(
            "migration_target_phase",
            "The phase the processes are being restarted to, else migration_phase; NaN: unknown.",
            registry=r,
        )
        self.migration_epoch = Gauge(
            "migration_epoch", "Rises with every change of the migration's state.", registry=r
        )
        self.process_phase = Gauge(
            "migration_process_phase",
            "The phase that this process's settings amount to; -1 where they are no phase.",
            registry=r,
        )
        self.unexpected_settings = Gauge(
            "migration_unexpected_settings",
            "1 while this process's settings are neither the recorded phase's nor the next one's.",
            registry=r,
        )
        for gauge in (self.migration_phase, self.migration_target, self.migration_epoch):
            gauge.set(math.nan)
        self.shadow = ShadowMetrics(r)
        self.parity = ParityMetrics(r)
        for status in ("persisted", "duplicate", "error", "dead_lettered"):
            self.processed.labels(status)
        for reason in Reason:
            self.dead_letters.labels(reason.value)
        for operation in ("ingress", "persist"):
            self.idempotency_hits.labels(operation)
            self.idempotency_requests.labels(operation)
