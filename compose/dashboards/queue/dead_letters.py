"""The row of dead letters, and of what was lost and found again."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query

__all__ = ["DEAD_LETTERS"]

DEAD_LETTERS = DashboardRow(
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
            "Lost and Restored",
            "Records that a Redis failover lost and processes appended again; partitions whose "
            "rows PostgreSQL lost and that are persisted again from the log; and those whose "
            "records the log no longer has. Normal: none.",
            "short",
            (
                Query(
                    "sum by (transport) (increase(stream_rescued_total{@}[1h]))",
                    "{{transport}} rescued",
                ),
                Query(
                    "sum by (transport) (increase(stream_position_went_back_total{@}[1h]))",
                    "{{transport}} partitions again",
                ),
                Query(
                    "sum by (transport) (increase(stream_rows_lost_total{@}[1h]))",
                    "{{transport}} partitions lost",
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
