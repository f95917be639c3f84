"""The row that says whether all is well now."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query, ThresholdStep

__all__ = ["HEALTH"]

_RED = (ThresholdStep(1, "red"),)


def _now(
    title: str, description: str, unit: str, expr: str, *steps: ThresholdStep, **more: object
) -> Panel:
    queries = (Query(expr),)
    return Panel(title, description, unit, queries, "stat", 4, 4, steps or _RED, **more)  # type: ignore[arg-type]


HEALTH = DashboardRow(
    "Is everything well now?",
    (
        _now(
            "Alerts Firing",
            "How many alerts fire. Normal: none.",
            "short",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
        ),
        _now(
            "Processes Up",
            "Processes that answer the scrape.",
            "short",
            "count(up{@} == 1) or vector(0)",
            ThresholdStep(float("-inf"), "red"),
            ThresholdStep(1, "green"),
        ),
        _now(
            "Processes Down",
            "Processes that should answer the scrape and do not. Normal: none.",
            "short",
            "count(up{@} == 0) or vector(0)",
        ),
        _now(
            "Total Lag",
            "Records without a row, over all partitions whose lag is known.",
            "short",
            "sum(max by (transport, partition) (stream_partition_lag{@}))",
            ThresholdStep(1600, "yellow"),
            ThresholdStep(16000, "red"),
        ),
        _now(
            "Lag Unknown",
            "Partitions whose lag is unknown to every process. Normal: none.",
            "short",
            "sum(min by (transport, partition) (stream_lag_unknown{@}))",
        ),
        _now(
            "Partitions Unread",
            "Partitions that no process owns. Normal: none.",
            "short",
            "count(max by (transport, partition) (stream_partition_lag{@}) unless on (transport, "
            "partition) (max by (transport, partition) (stream_partition_owned{@}) == 1)) "
            "or vector(0)",
        ),
        _now(
            "Longest Stall",
            "The longest that records wait in a partition whose position does not move.",
            "s",
            "max(stream_partition_stalled_seconds{@})",
            ThresholdStep(10, "yellow"),
            ThresholdStep(60, "red"),
        ),
        _now(
            "Oldest Message",
            "Time lag: the age of the oldest record without a row. Normal: below 1 s.",
            "s",
            "max(stream_oldest_unprocessed_age_seconds{@})",
            ThresholdStep(5, "yellow"),
            ThresholdStep(60, "red"),
        ),
        _now(
            "Records Lost",
            "Records that left a log unread, ever. Anything above 0 is an incident.",
            "short",
            "sum(max by (transport, partition) (stream_loss_detected{@}))",
        ),
        _now(
            "Logs Altered",
            "Settings of the logs that somebody altered on their servers. Normal: none.",
            "short",
            "sum(max by (transport) (stream_log_altered_settings{@}))",
        ),
        _now(
            "Logs Replaced",
            "Logs that a process met in place of those that their names mean. Normal: none.",
            "short",
            "sum(max by (transport) (stream_log_replaced{@}))",
        ),
        _now(
            "Certificates Overdue",
            "TLS certificates, of servers or our own, that end soon. Normal: none.",
            "short",
            "count(min by (server, certificate) (tls_certificate_overdue_timestamp_seconds{@})"
            " < time()) or vector(0)",
        ),
        _now(
            "Dead Letters Waiting",
            "Dead letters nobody has redriven or discarded. Normal: none.",
            "short",
            "sum(max by (reason) (stream_dead_letter_depth{@}))",
        ),
        _now(
            "Workers Paused",
            "Workers that wait for a dependency to come back. Normal: none.",
            "short",
            "sum(stream_worker_paused{@}) or vector(0)",
        ),
        _now(
            "Requests Refused",
            "Requests and messages answered with 503, a second. Normal: none.",
            "reqps",
            "sum(rate(ingress_failed_total{@}[$__rate_interval])) + "
            "sum(rate(ingress_shed_total{@}[$__rate_interval]))",
            ThresholdStep(0.001, "red"),
        ),
        _now(
            "Crashes and Restarts, 24 h",
            "Processes that were found dead, and restarts at the same address. Normal: none but "
            "deployments.",
            "short",
            "sum(increase(crossfade_processes_died_total{@}[24h])) + "
            "sum(changes(process_start_time_seconds{@}[24h]))",
            ThresholdStep(1, "yellow"),
            ThresholdStep(10, "red"),
        ),
    ),
)
