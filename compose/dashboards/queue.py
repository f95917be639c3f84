"""The dashboard "Phase 3: Durable Delivery - Queue Monitoring": the guide's six panels, and more.

Every process reports the lag of every partition, so panels show the largest reported value. Counts
of each process's own work, such as rates, are summed.
"""

from __future__ import annotations

from compose.dashboards.panels import (
    Dashboard,
    DashboardRow,
    Panel,
    Query,
    ThresholdStep,
    quantiles,
)

__all__ = ["QUEUE"]

_HITS = 'sum(rate(idempotency_hit_total{@,operation="ingress"}[$__rate_interval]))'
_CHECKED = 'sum(rate(idempotency_requests_total{@,operation="ingress"}[$__rate_interval]))'
_RED = (ThresholdStep(1, "red"),)


_GUIDE = DashboardRow(
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
            "Records appended and not acknowledged, by partition. Normal: below 100. Look into it "
            "from 500; the alert is at 1000. A line that ends is a lag nobody knows, not a zero.",
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
            "From delivery to a worker to the acknowledgement after commit. Normal: p95 < 100 ms.",
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


def _now(
    title: str, description: str, unit: str, expr: str, *steps: ThresholdStep, **more: object
) -> Panel:
    queries = (Query(expr),)
    return Panel(title, description, unit, queries, "stat", 4, 4, steps or _RED, **more)  # type: ignore[arg-type]


_HEALTH = DashboardRow(
    "Is it well now?",
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
            "Lag in All",
            "Records not acknowledged, over all partitions whose lag is known.",
            "short",
            "sum(max by (transport, partition) (stream_partition_lag{@}))",
            ThresholdStep(1600, "yellow"),
            ThresholdStep(16000, "red"),
        ),
        _now(
            "Lag Unknown",
            "Partitions whose lag no process can tell. Normal: none.",
            "short",
            "sum(min by (transport, partition) (stream_lag_unknown{@}))",
        ),
        _now(
            "Partitions Unread",
            "Partitions that no worker owns, by the log's own account. Normal: none.",
            "short",
            "sum(min by (transport, partition) (stream_partition_unowned{@}))",
        ),
        _now(
            "Longest Stall",
            "The longest that records wait in a partition in which nothing is acknowledged.",
            "s",
            "max(stream_partition_stalled_seconds{@})",
            ThresholdStep(10, "yellow"),
            ThresholdStep(60, "red"),
        ),
        _now(
            "Oldest Message",
            "Time lag: the age of the oldest record that is not acknowledged. Normal: below 1 s.",
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

_INGRESS = DashboardRow(
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
            "One tick of the ingress: a look-up, an append and an fsync for all who wait.",
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

_WORKERS = DashboardRow(
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
            "Pending",
            "Records delivered to a worker and not acknowledged, by partition.",
            "short",
            (
                Query(
                    "max by (transport, partition) (stream_partition_pending{@})",
                    "{{transport}} {{partition}}",
                ),
            ),
        ),
        Panel(
            "Age of the Oldest Record",
            "Time lag by partition: how long its oldest unacknowledged record has waited.",
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
            "How long records have waited while not one was acknowledged. Normal: zero.",
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
            "Gates that are closed, by what they wait for. Normal: none.",
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

_DEAD = DashboardRow(
    "Dead letters",
    (
        Panel(
            "Dead Letters Waiting by Reason",
            "Dead letters nobody has redriven or discarded. Absent while PostgreSQL is down.",
            "short",
            (Query("max by (reason) (stream_dead_letter_depth{@})", "{{reason}}"),),
        ),
        Panel(
            "Dead Letters Not Listed Yet",
            "In the log, not yet in the table that is listed and redriven. Normal: zero.",
            "short",
            (Query("max by (transport) (stream_dead_letter_unindexed{@})", "{{transport}}"),),
        ),
        Panel(
            "Lost and Found Again",
            "Records that a Redis failover lost and processes appended again, rows that PostgreSQL "
            "lost and the log put back, and those that the log no longer has. Normal: none.",
            "short",
            (
                Query(
                    "sum by (transport) (increase(stream_rescued_total{@}[1h]))",
                    "{{transport}} rescued",
                ),
                Query(
                    "sum by (transport) (increase(stream_rows_restored_total{@}[1h]))",
                    "{{transport}} rows",
                ),
                Query(
                    "sum by (transport) (increase(stream_rows_lost_total{@}[1h]))",
                    "{{transport}} rows lost",
                ),
            ),
        ),
        Panel(
            "Archive Waits",
            "How long the oldest file of archived rows waits to be finished. Normal: zero.",
            "s",
            (Query("max(rows_archive_oldest_seconds{@})", "oldest file"),),
        ),
        Panel(
            "Redrive Rate",
            "Dead letters put back into the log.",
            "mps",
            (Query("sum(rate(dead_letter_redriven_total{@}[$__rate_interval]))", "redriven"),),
        ),
    ),
)


def _burn(title: str, slo: str, description: str) -> Panel:
    windows = ("5m", "1h", "6h", "3d")
    record = f"crossfade:{slo}_failures:ratio_rate"
    return Panel(
        title,
        description,
        "short",
        tuple(Query(f"{record}{window} / 0.001", window) for window in windows),
        width=12,
        steps=(ThresholdStep(1, "yellow"), ThresholdStep(6, "orange"), ThresholdStep(14.4, "red")),
    )


_OBJECTIVES = DashboardRow(
    "Objectives (30 days)",
    (
        _burn(
            "Acceptance: Error Budget Burn",
            "acceptance",
            "How many times as fast as 99.9 % allows messages are answered with 503.",
        ),
        _burn(
            "Persistence: Error Budget Burn",
            "persistence",
            "How many times as fast as 99.9 % allows rows are later than a second.",
        ),
    ),
)

_PROCESSES = DashboardRow(
    "Each process",
    (
        Panel(
            "CPU",
            "Cores used by each process. One Python process uses at most about one.",
            "short",
            (Query("rate(process_cpu_seconds_total{@}[$__rate_interval])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            (Query("process_resident_memory_bytes{@}", "{{instance}}"),),
        ),
        Panel(
            "Event Loop Delay",
            "How late the event loop ran a timer: the worst of the last 10 seconds.",
            "s",
            (Query("process_event_loop_delay_seconds{@}", "{{instance}}"),),
            steps=(ThresholdStep(0.1, "yellow"), ThresholdStep(1, "red")),
        ),
        Panel(
            "Open Files",
            "Open file descriptors of each process, sockets among them.",
            "short",
            (Query("process_open_fds{@}", "{{instance}}"),),
        ),
        Panel(
            "Up Since",
            "When each process started.",
            "dateTimeFromNow",
            (Query("1000 * process_start_time_seconds{@}", "{{instance}}"),),
            "stat",
            bounds=(None, None),
        ),
        Panel(
            "Version",
            "How many processes run which version. Two of them: a deployment is under way.",
            "short",
            (Query("count by (version) (crossfade_build_info{@})", "{{version}}"),),
            "stat",
        ),
    ),
)

QUEUE = Dashboard(
    "crossfade-queue",
    "Phase 3: Durable Delivery - Queue Monitoring",
    "Is every accepted message persisted, soon, once and in order? The deployment guide's six "
    "panels first.",
    (_GUIDE, _HEALTH, _INGRESS, _WORKERS, _DEAD, _OBJECTIVES, _PROCESSES),
)
