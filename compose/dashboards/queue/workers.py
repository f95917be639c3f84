"""The dashboard row of the workers: latency, lag, owners of partitions."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query, ThresholdStep, quantiles

__all__ = ["WORKERS"]

WORKERS = DashboardRow(
    "Workers",
    (
        Panel(
            "Time to Row",
            "From acceptance at the ingress to the committed row.",
            "s",
            quantiles("message_persist_latency_seconds", 0.5, 0.95, 0.99),
            steps=(ThresholdStep(1, "red"),),
        ),
        Panel(
            "Age of the Oldest Record",
            "Time lag by partition: how long its oldest record without a row has waited.",
            "s",
            (
                Query(
                    "max by (transport, partition) (stream_oldest_unprocessed_age_seconds{@})",
                    "{{transport}} {{partition}}",
                ),
            ),
            steps=(ThresholdStep(60, "red"),),
        ),
        Panel(
            "Partitions Owned",
            "How many partitions each process reads. Normal: equal shares.",
            "short",
            (
                Query(
                    "sum by (instance, transport) (stream_partition_owned{@})",
                    "{{instance}} {{transport}}",
                ),
            ),
            stack=True,
        ),
        Panel(
            "Partition Stalled",
            "How long records have waited while the position did not move. Normal: zero.",
            "s",
            (
                Query(
                    "max by (transport, partition) (stream_partition_stalled_seconds{@})",
                    "{{transport}} {{partition}}",
                ),
            ),
            steps=(ThresholdStep(60, "red"),),
        ),
        Panel(
            "Waiting for a Dependency",
            "Workers that wait, by process and dependency. Normal: none.",
            "short",
            (
                Query(
                    "sum by (instance, dependency) (stream_worker_paused{@})",
                    "{{instance}} {{dependency}}",
                ),
            ),
        ),
    ),
)
