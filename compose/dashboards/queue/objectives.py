"""The row of the objectives: how fast each error budget is used up."""

from __future__ import annotations

from compose.dashboards.panels import DashboardRow, Panel, Query, ThresholdStep

__all__ = ["OBJECTIVES"]


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


OBJECTIVES = DashboardRow(
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
