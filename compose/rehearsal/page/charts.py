"""Lines and areas as SVG, drawn to stretch: 1000 wide, 100 high, text laid over it as HTML.

So a picture fills whatever width there is and its labels stay as large as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

__all__ = ["HIGH", "WIDE", "Axis", "area", "canvas", "decades", "line", "linear", "stacked"]

WIDE, HIGH = 1000.0, 100.0
_TOP = 92.0  # the highest value: a label fits above it

Values = Sequence[float | None]
Axis = tuple[Callable[[float], float], Sequence[tuple[float, str]]]
"""A value's height from 0 (bottom) to 100, and the ticks: height and label."""


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

    return height, [(height(mark), f"{mark:g}{unit}") for mark in marks]


def decades(highest: float, lowest: float, label: Callable[[float], str]) -> Axis:
    """Return a logarithmic axis that starts a little below ``lowest``; less than that is bottom."""
    start = math.log10(lowest)
    end = max(math.log10(max(highest, lowest)), start + 1)

    def height(value: float) -> float:
        at = (math.log10(max(value, lowest)) - start) / (end - start)
        return 2 + at * (_TOP - 2)

    powers = range(math.ceil(start), math.floor(end) + 1)
    return height, [(height(10.0**n), label(10.0**n)) for n in powers]


def line(values: Values, axis: Axis, kind: str) -> str:
    """Return a line, interrupted where nothing is known."""
    return _path(_runs(values, axis[0], len(values)), kind, close=None)


def area(values: Values, axis: Axis, kind: str) -> str:
    """Return an area from the bottom up."""
    return _path(_runs(values, axis[0], len(values)), kind, close=HIGH)


def stacked(layers: Sequence[tuple[str, Sequence[float]]], axis: Axis) -> str:
    """Return areas that stand on each other, the first one at the bottom."""
    totals = [0.0] * len(layers[0][1])
    drawn = []
    for kind, values in layers:
        totals = [below + more for below, more in zip(totals, values, strict=True)]
        drawn.append(area(totals, axis, kind))
    return "".join(reversed(drawn))  # the tallest first, so that each hides what is not its own


def canvas(drawn: str, ticks: Iterable[tuple[float, str]], height: int, label: str) -> str:
    """Return a picture with its ticks. ``label`` is for those who don't see it."""
    ticks = list(ticks)
    grid = "".join(
        f'<line class="grid" x1="0" x2="{WIDE:g}" y1="{HIGH - at:.2f}" y2="{HIGH - at:.2f}"/>'
        for at, _ in ticks
    )
    labels = "".join(
        f'<span class="tick" style="bottom:{at:.1f}%">{escape(text)}</span>' for at, text in ticks
    )
    return (
        f'<div class="canvas" style="height:{height}px"><svg viewBox="0 0 {WIDE:g} {HIGH:g}" '
        f'preserveAspectRatio="none" role="img" aria-label="{escape(label)}">{grid}{drawn}</svg>'
        f'{labels}<i class="cursor"></i></div>'
    )


def _runs(
    values: Values, height: Callable[[float], float], count: int
) -> list[list[tuple[float, float]]]:
    """Return the points, in runs of neighbours of which something is known."""
    runs: list[list[tuple[float, float]]] = [[]]
    for n, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(((n + 0.5) / count * WIDE, HIGH - height(value)))
    return [run for run in runs if run]


def _path(runs: Sequence[Sequence[tuple[float, float]]], kind: str, close: float | None) -> str:
    parts = []
    for run in runs:
        # A lone point is drawn as a short line: it would not be seen.
        points = run if len(run) > 1 else [run[0], (run[0][0] + 1, run[0][1])]
        drawn = "L".join(f"{x:.1f} {y:.2f}" for x, y in points)
        if close is None:
            parts.append(f"M{drawn}")
        else:
            parts.append(f"M{points[0][0]:.1f} {close:g}L{drawn}L{points[-1][0]:.1f} {close:g}Z")
    return f'<path class="{kind}" d="{"".join(parts)}"/>' if parts else ""
