"""One figure: ours beside its baseline, from interleaved runs, and whether the target is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = ["Compared", "Figure", "Limit", "Point", "median"]


class Compared(msgspec.Struct, kw_only=True, tag="compared"):
    """``target`` is how many times the baseline ours must be, by the medians of the runs."""

    name: str
    unit: str
    ours: list[float]
    baseline_name: str
    baseline: list[float]
    target: float
    details: dict[str, str | float | dict[str, int]] = {}

    @property
    def ratio(self) -> float:
        """Ours over the baseline, median over median."""
        return median(self.ours) / median(self.baseline)

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio >= self.target


class Limit(msgspec.Struct, kw_only=True, tag="limit"):
    """An absolute target: ``value`` must stay under (or over) ``limit``."""

    name: str
    unit: str
    values: list[float]
    limit: float
    must_be: Literal["below", "at least"] = "below"
    details: dict[str, str | float | dict[str, int]] = {}

    @property
    def value(self) -> float:
        """The median of the runs."""
        return median(self.values)

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        return self.value < self.limit if self.must_be == "below" else self.value >= self.limit


class Point(msgspec.Struct, kw_only=True, tag="point"):
    """Measurements of one service under one load. They have no target: compare them with others.

    Latencies are milliseconds from when a message was due: the median, p99 and p99.9.
    """

    name: str
    load: str
    rate: float | None
    """Offered, messages a second; ``None`` of a closed loop."""
    posts_per_second: float
    rows_per_second: float
    """Messages over the time until the last row was committed."""
    refused: int
    """Requests that were not answered 2xx."""
    post_ms: list[float]
    row_ms: list[float]
    cpu_us: dict[str, float]
    """CPU time a message, in microseconds, by process tree."""
    generator_cpu: float
    """The share of one core that the load generator used."""

    @property
    def met(self) -> bool:
        """True."""
        return True


Figure = Compared | Limit | Point


def median(values: Sequence[float]) -> float:
    """Return the median; 0.0 of nothing."""
    return statistics.median(values) if values else 0.0
