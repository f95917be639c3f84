"""The kinds of figures, each with its measurements and its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = ["Compared", "Figure", "Limit", "Point", "median"]


class Compared(msgspec.Struct, kw_only=True, tag="compared"):
    """Our measurements and a baseline's, from interleaved runs.

    The target is met if the median of ``ours`` is at least ``target`` times that of ``baseline``.
    """

    name: str
    unit: str
    ours: list[float]
    baseline_name: str
    baseline: list[float]
    target: float
    details: dict[str, str | float | dict[str, int]] = {}

    @property
    def ratio(self) -> float:
        """The median of ``ours`` divided by the median of ``baseline``."""
        return median(self.ours) / median(self.baseline)

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio >= self.target


class Limit(msgspec.Struct, kw_only=True, tag="limit"):
    """An absolute target: the median must be below ``limit``, or at least ``limit``."""

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
    """Measurements of one service under one load, without a target.

    Latencies are the median, p99 and p99.9, in milliseconds from when a message was due.
    """

    name: str
    load: str
    rate: float | None
    """The offered rate in messages per second; ``None`` for a closed loop."""
    posts_per_second: float
    rows_per_second: float
    """Messages divided by the time until the last row was committed."""
    refused: int
    """Number of requests that were not answered 2xx."""
    post_ms: list[float]
    row_ms: list[float]
    cpu_us: dict[str, float]
    """CPU time per message by process tree, in microseconds."""
    generator_cpu: float
    """The share of one core that the load generator used."""

    @property
    def met(self) -> bool:
        """Always true: a point has no target."""
        return True


Figure = Compared | Limit | Point


def median(values: Sequence[float]) -> float:
    """Return the median; 0.0 without values."""
    return statistics.median(values) if values else 0.0
