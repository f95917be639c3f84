"""The row of the guide's six panels."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query, ThresholdStep, quantiles

__all__ = ["GUIDE"]

_HITS = 'sum(rate(idempotency_hit_total{@,operation="ingress"}[$__rate_interval]))'


_CHECKED = 'sum(rate(idempotency_requests_total{@,operation="ingress"}[$__rate_interval]))'


GUIDE = DashboardRow(
    "The guide's panels",
    (
        Panel(
            "Enqueue Rate",
            "Records appended to each log. Normal: the same as the producers' request rate.",
            "mps",
            (
                Query(
                    "sum by (transport) (rate(stream_enqueue_total{@}[$__rate_interval]))",
                    "{{transport}}",
                    exemplars=True,
                ),
            ),
        ),
        Panel(
            "Dequeue Rate",
            "Records the workers finished with. Normal: follows the enqueue rate.",
            "mps",
            (
                Query(
                    "sum by (status) (rate(stream_consumer_processed_total{@}[$__rate_interval]))",
                    "{{status}}",
                ),
            ),
        ),
        Panel(
            "Partition Lag",
            "Records without a row, by partition. Normal: below 100. Look into "
            "it from 500; the alert is at 1000. Where a line ends, the lag is unknown, not zero.",
            "short",
            (
                Query(
                    "max by (transport, partition) (stream_partition_lag{@})",
                    "{{transport}} {{partition}}",
                ),
            ),
            steps=(
                ThresholdStep(100, "yellow"),
                ThresholdStep(500, "orange"),
                ThresholdStep(1000, "red"),
            ),
        ),
        Panel(
            "Processing Duration",
            "From delivery to a worker to the commit. Normal: p95 < 100 ms.",
            "s",
            quantiles("stream_processing_duration_seconds", 0.5, 0.95, 0.99),
            steps=(ThresholdStep(0.1, "red"),),
        ),
        Panel(
            "DLQ Rate",
            "Records dead-lettered, by reason. Normal: zero. The alert is at 10 a second.",
            "mps",
            (
                Query(
                    "sum by (reason) (rate(stream_dead_letter_total{@}[$__rate_interval]))",
                    "{{reason}}",
                    exemplars=True,
                ),
            ),
            steps=(ThresholdStep(0.001, "yellow"), ThresholdStep(10, "red")),
        ),
        Panel(
            "Idempotent Hit Rate",
            "Share of messages that are repeats of an acknowledged one. Normal: 2-3 %; above 10 % "
            "look at the clients' retry logic.",
            "percentunit",
            (
                Query(f"{_HITS} / {_CHECKED}", "ingress"),
                Query(
                    'sum(rate(idempotency_hit_total{@,operation="persist"}[$__rate_interval])) / '
                    'sum(rate(idempotency_requests_total{@,operation="persist"}'
                    "[$__rate_interval]))",
                    "persist",
                ),
            ),
            bounds=(0, 1),
            steps=(ThresholdStep(0.03, "yellow"), ThresholdStep(0.1, "red")),
        ),
    ),
)
