"""How long and how often: the full run, and the quick one that only shows that all works."""

from __future__ import annotations

import msgspec

__all__ = ["FULL", "QUICK", "Plan"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of one run of the benchmarks."""

    runs: int
    """Interleaved runs of each side; the median counts."""
    warm_seconds: float
    """Of load before the first run."""
    seconds: float
    """Of each closed-loop run."""
    backlog: int
    """Messages to drain, and messages to post while memory is watched."""
    steady_seconds: float
    rows_before: int
    """Rows already in the table when posting begins: a look-up in an empty table is no look-up."""


FULL = Plan(
    runs=5,
    warm_seconds=10.0,
    seconds=6.0,
    backlog=200_000,
    steady_seconds=60.0,
    rows_before=200_000,
)
QUICK = Plan(
    runs=1,
    warm_seconds=3.0,
    seconds=2.0,
    backlog=20_000,
    steady_seconds=5.0,
    rows_before=20_000,
)
