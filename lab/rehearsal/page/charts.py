"""Lines and areas over time as SVG paths, 1000 wide and 100 high.

The browser stretches a chart to the width of its container. Labels are HTML and keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

__all__ = ["Axis", "Chart", "decades", "line", "linear", "stacked"]

_WIDE, _HIGH = 1000.0, 100.0
_TOP = 92.0  # the height of the highest value; a label fits above it

Values = Sequence[float | None]


class Axis(NamedTuple):
    """A vertical axis from 0 (bottom) to 100: the height of values, and the ticks."""

    height: Callable[[float], float]
    """Returns the height of a value."""
    ticks: list[tuple[float, str]]
    """Height and label of each tick."""


class Path(NamedTuple):
    """A line or an area. ``kind`` is its class in ``page.css``."""

    kind: str
    d: str


class Chart(NamedTuple):
    """One chart over time."""

    title: str
    says: str
    label: str
    """The chart's text alternative."""
    legend: dict[str, str]
    """The meaning of each kind of line or area."""
    pixels: int
    axis: Axis
    paths: list[Path]


def linear(highest: float, unit: str) -> Axis:
    """Return an axis from 0 to ``highest`` or a little more, with two or three ticks."""
    top = max(highest, 1.0)
    step = 10 ** math.floor(math.log10(top))
    for factor in (5, 2, 1):
        if top / (step * factor) >= 1.9 or factor == 1:
            step *= factor
            break
    if top / step < 1.9:
        step /= 2
    marks = [step * n for n in range(1, int(top / step) + 1)]

    def height(value: float) -> float:
        return value / top * _TOP

    return Axis(height, [(height(mark), f"{mark:g}{unit}") for mark in marks])


def decades(highest: float, lowest: float, label: Callable[[float], str]) -> Axis:
    """Return a logarithmic axis; values below ``lowest`` are drawn at the bottom."""
    start = math.log10(lowest)
    end = max(math.log10(max(highest, lowest)), start + 1)

    def height(value: float) -> float:
        at = (math.log10(max(value, lowest)) - start) / (end - start)
        return 2 + at * (_TOP - 2)

    powers = range(math.ceil(start), math.floor(end) + 1)
    return Axis(height, [(height(10.0**n), label(10.0**n)) for n in powers])


def line(kind: str, values: Values, axis: Axis) -> Path:
    """Return a line with gaps where values are ``None``."""
    return Path(kind, "".join(f"M{_points(run)}" for run in _runs(values, axis)))


def stacked(layers: Iterable[tuple[str, Sequence[float]]], axis: Axis) -> list[Path]:
    """Return stacked areas, the first one at the bottom."""
    totals: Sequence[float] = ()
    paths = []
    for kind, values in layers:
        totals = [a + b for a, b in zip(totals, values, strict=True)] if totals else values
        paths.append(_area(kind, totals, axis))
    return paths[::-1]  # the tallest first: each area is drawn from 0, over the taller ones


def _area(kind: str, values: Values, axis: Axis) -> Path:
    return Path(
        kind,
        "".join(
            f"M{run[0][0]:.1f} {_HIGH:g}L{_points(run)}L{run[-1][0]:.1f} {_HIGH:g}Z"
            for run in _runs(values, axis)
        ),
    )


def _runs(values: Values, axis: Axis) -> list[list[tuple[float, float]]]:
    """Return the points of each run of consecutive known values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for n, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(((n + 0.5) / len(values) * _WIDE, _HIGH - axis.height(value)))
    # Draw a single point as a short line; as a point it would be invisible.
    return [run if len(run) > 1 else [*run, (run[0][0] + 1, run[0][1])] for run in runs if run]


def _points(run: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.2f}" for x, y in run)
