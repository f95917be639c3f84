"""The row of what producers see: acknowledgements, failures, the group commit."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query, ThresholdStep, quantiles

__all__ = ["PRODUCERS"]

PRODUCERS = DashboardRow(
    "Producers",
    (
        Panel(
            "Acknowledgement Time",
            "From handing a message in to its verdict: waiting, look-up, append and fsync.",
            "s",
            quantiles("ingress_ack_duration_seconds", 0.5, 0.95, 0.99),
        ),
        Panel(
            "Failures by Problem",
            "Messages answered with 503, and requests refused before their body was read.",
            "reqps",
            (
                Query(
                    "sum by (problem) (rate(ingress_failed_total{@}[$__rate_interval]))",
                    "{{problem}}",
                ),
                Query("sum(rate(ingress_shed_total{@}[$__rate_interval]))", "shed"),
            ),
        ),
        Panel(
            "Ingress Queue Depth",
            "Messages waiting for the next append, by process. Normal: near zero.",
            "short",
            (Query("ingress_queue_depth{@}", "{{instance}}"),),
        ),
        Panel(
            "Group Commit Duration",
            "One tick of the ingress: a look-up, an append and an fsync for all waiting messages.",
            "s",
            quantiles("ingress_append_duration_seconds", 0.5, 0.99),
        ),
        Panel(
            "Group Commit Size",
            "Messages that share a tick, on average.",
            "short",
            (
                Query(
                    "sum(rate(ingress_ack_duration_seconds_count{@}[$__rate_interval])) / "
                    "sum(rate(ingress_append_duration_seconds_count{@}[$__rate_interval]))",
                    "messages",
                ),
            ),
        ),
        Panel(
            "Waiting for a Quota",
            "Share of its time for which a Kafka asked a process to send nothing, as a quota is "
            "used up: the process that waits most. With several brokers it can be above 1. Normal: "
            "zero.",
            "percentunit",
            (
                Query(
                    "max by (transport) "
                    "(rate(stream_throttled_seconds_total{@}[$__rate_interval]))",
                    "{{transport}}",
                ),
            ),
            steps=(ThresholdStep(0.1, "red"),),
        ),
        Panel(
            "Enqueue Rate by Partition",
            "A partition far above the others has a conversation that is busier than it should be.",
            "mps",
            (
                Query(
                    "sum by (partition) (rate(stream_enqueue_total{@}[$__rate_interval]))",
                    "{{partition}}",
                ),
            ),
            stack=True,
        ),
    ),
)
