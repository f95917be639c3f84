"""The dashboard "Crossfade: Migration": the phase, and whether a step forward or back is safe."""

from __future__ import annotations

from compose.dashboards.panels import (
    Dashboard,
    DashboardRow,
    Panel,
    Query,
    ThresholdStep,
    quantiles,
)

__all__ = ["MIGRATION"]

_PHASES = {
    "-1": "no phase",
    "0": "0 old log",
    "1": "1 shadow",
    "2": "2 mirror",
    "3": "3 consume",
    "4": "4 primary",
    "5": "5 new log",
}
_RATE = "[$__rate_interval]"
_OUTCOMES = f"sum by (outcome) (rate(shadow_publish_total{{@}}{_RATE}))"
# Results that mean a difference; the others are matched, overlapped, or not comparable yet.
_WRONG = "missing_in_shadow|missing_in_primary|different_bytes|order_differs"
_COMPARED = "matched|missing_in_shadow|missing_in_primary|different_bytes"


def _stat(
    title: str, description: str, unit: str, expr: str, *steps: ThresholdStep, **more: object
) -> Panel:
    return Panel(title, description, unit, (Query(expr),), "stat", 4, 4, steps, **more)  # type: ignore[arg-type]


_STATE = DashboardRow(
    "Where it stands",
    (
        _stat(
            "Phase",
            "The phase that every process was last seen on. 'crossfade migrate status' says who "
            "changed it, when and why.",
            "none",
            "max(migration_phase{@})",
            names=_PHASES,
            bounds=(None, None),
        ),
        _stat(
            "Target Phase",
            "The phase the processes are being restarted to; the same as Phase where none is.",
            "none",
            "max(migration_target_phase{@})",
            names=_PHASES,
            bounds=(None, None),
        ),
        _stat(
            "Processes Behind",
            "Processes whose settings are not those of the phase that is aimed at. Normal between "
            "steps: none.",
            "short",
            "count(migration_process_phase{@} != scalar(max(migration_target_phase{@}))) "
            "or vector(0)",
            ThresholdStep(1, "yellow"),
        ),
        _stat(
            "Unexpected Settings",
            "Processes whose settings are neither the recorded phase's nor the next one's.",
            "short",
            "sum(migration_unexpected_settings{@}) or vector(0)",
            ThresholdStep(1, "red"),
        ),
        _stat(
            "Mismatches in 24 h",
            "Differences that two equal logs never have. Each restarts the soak. Normal: none.",
            "short",
            f'sum(increase(shadow_parity_total{{@,result=~"{_WRONG}"}}[24h]))',
            ThresholdStep(1, "red"),
        ),
        _stat(
            "Ready to Roll Back",
            "Yes: both logs take every message now. No copy was given up or failed in five "
            "minutes, and the shadow has everything.",
            "none",
            "(sum(increase(shadow_publish_total"
            '{@,outcome!~"appended|remembered"}[5m])) < bool 1) '
            "* (sum(shadow_lag_messages{@}) < bool 100)",
            ThresholdStep(float("-inf"), "red"),
            ThresholdStep(1, "green"),
            names={"0": "no", "1": "yes"},
        ),
        _stat(
            "Compared up to",
            "Age of the newest message that was compared. Normal: below a minute.",
            "s",
            "time() - max(shadow_parity_judged_timestamp_seconds{@})",
            ThresholdStep(60, "yellow"),
            ThresholdStep(300, "red"),
        ),
        Panel(
            "Processes by Phase",
            "How many processes run with which phase's settings. Two phases: a step is under way.",
            "short",
            (Query('count_values("phase", migration_process_phase{@})', "phase {{phase}}"),),
            width=12,
            stack=True,
        ),
        Panel(
            "Phase over Time",
            "The recorded phase, and the one that is aimed at.",
            "none",
            (
                Query("max(migration_phase{@})", "phase"),
                Query("max(migration_target_phase{@})", "target"),
            ),
            width=12,
            bounds=(0, 5),
            names=_PHASES,
        ),
    ),
)

_LOGS = DashboardRow(
    "Both logs",
    (
        Panel(
            "Lag on Each Log",
            "Records without a row, in all. On the log that is not read, the follower passes what "
            "has become a row: normal is near zero on both.",
            "short",
            (
                Query(
                    "sum by (transport) (max by (transport, partition) (stream_partition_lag{@}))",
                    "{{transport}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Oldest Record on Each Log",
            "Time lag: the age of the oldest record without a row.",
            "s",
            (
                Query(
                    "max by (transport) (stream_oldest_unprocessed_age_seconds{@})",
                    "{{transport}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Append Rate on Each Log",
            "Records appended. While both are written: equal.",
            "mps",
            (
                Query(
                    f"sum by (transport) (rate(stream_enqueue_total{{@}}{_RATE}))", "{{transport}}"
                ),
            ),
            width=12,
        ),
        Panel(
            "Unknown Lag on Each Log",
            "Partitions whose lag is unknown. Normal: none.",
            "short",
            (
                Query(
                    "sum by (transport) (min by (transport, partition) (stream_lag_unknown{@}))",
                    "{{transport}}",
                ),
            ),
            width=12,
            steps=(ThresholdStep(1, "red"),),
        ),
    ),
)

_SHADOW = DashboardRow(
    "The shadow",
    (
        Panel(
            "Shadow Outcomes",
            "Copies by outcome: appended is good, dropped_* are gaps to backfill.",
            "mps",
            (Query(_OUTCOMES, "{{outcome}}"),),
        ),
        Panel(
            "Copies Given Up in an Hour",
            "Copies that the shadow will not get by itself. Each is recorded for the backfill. "
            "Normal: none.",
            "short",
            (
                Query(
                    "sum by (outcome) (increase("
                    'shadow_publish_total{@,outcome=~"dropped_.*"}[1h]))',
                    "{{outcome}}",
                ),
            ),
            steps=(ThresholdStep(1, "red"),),
        ),
        Panel(
            "Shadow Lag",
            "Messages of the primary that are not in the shadow, by partition. Normal: near zero.",
            "short",
            (Query("max by (partition) (shadow_lag_messages{@})", "{{partition}}"),),
            steps=(ThresholdStep(100, "yellow"), ThresholdStep(1000, "red")),
        ),
        Panel(
            "Shadow Queue",
            "Copies that wait for the shadow, by process. Normal: near zero.",
            "short",
            (Query("shadow_queue_depth{@}", "{{instance}}"),),
        ),
        Panel(
            "Oldest Waiting Copy",
            "Age of the oldest copy that waits.",
            "s",
            (Query("shadow_queue_oldest_age_seconds{@}", "{{instance}}"),),
        ),
        Panel(
            "Shadow Breaker",
            "Processes by the state of their circuit breaker. Normal: all closed.",
            "short",
            (Query("sum by (state) (shadow_breaker_state{@})", "{{state}}"),),
            stack=True,
        ),
    ),
)

_PARITY = DashboardRow(
    "Parity: are the two logs the same?",
    (
        Panel(
            "Parity by Class",
            "Messages compared, by what the comparison found. order_overlapped and "
            "not_yet_comparable are no mismatch.",
            "mps",
            (Query(f"sum by (result) (rate(shadow_parity_total{{@}}{_RATE}))", "{{result}}"),),
        ),
        Panel(
            "Mismatches in an Hour",
            "Differences that two equal logs never have, by kind. Normal: none.",
            "short",
            (
                Query(
                    f'sum by (result) (increase(shadow_parity_total{{@,result=~"{_WRONG}"}}[1h]))',
                    "{{result}}",
                ),
            ),
            steps=(ThresholdStep(1, "red"),),
        ),
        Panel(
            "Parity and Coverage",
            "matched: share of the compared messages that match. coverage: share of the messages "
            "that could be compared. Look at both: a share of few messages says little.",
            "percentunit",
            (
                Query(
                    f'sum(rate(shadow_parity_total{{@,result="matched"}}{_RATE})) / '
                    f'sum(rate(shadow_parity_total{{@,result=~"{_COMPARED}"}}{_RATE}))',
                    "matched",
                ),
                Query("max(shadow_parity_coverage{@})", "coverage"),
            ),
            decimals=2,
        ),
    ),
)

_LEFT = DashboardRow(
    "The log that is not read",
    (
        Panel(
            "Leftovers",
            "Logs no longer configured that may hold messages. Normal: none.",
            "short",
            (Query("sum(stream_leftover{@}) or vector(0)", "leftovers"),),
            steps=(ThresholdStep(1, "red"),),
        ),
    ),
)

_PRICE = DashboardRow(
    "What it costs producers",
    (
        Panel(
            "Acknowledgement Time per Phase",
            "From handing a message in to its verdict. In async mode the shadow adds nothing; in "
            "sync mode its own append.",
            "s",
            quantiles("ingress_ack_duration_seconds", 0.5, 0.99),
        ),
        Panel(
            "Time to Row per Phase",
            "From acceptance to the committed row.",
            "s",
            quantiles("message_persist_latency_seconds", 0.5, 0.99),
        ),
        Panel(
            "Failures per Phase",
            "Messages answered with 503. In sync mode a shadow that is down shows here.",
            "reqps",
            (Query(f"sum by (problem) (rate(ingress_failed_total{{@}}{_RATE}))", "{{problem}}"),),
        ),
    ),
)

MIGRATION = Dashboard(
    "crossfade-migration",
    "Crossfade: Migration",
    "How far is the migration, are both logs equal, and can it be rolled back?",
    (_STATE, _SHADOW, _PARITY, _LOGS, _LEFT, _PRICE),
)
