"""Draws latency over the offered rate as SVG, with logarithmic axes and a line per percentile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from string import Template
from typing import NamedTuple

from lab.bench.figure import Point

__all__ = ["draw"]

_LEFT, _TOP, _WIDE, _HIGH = 60, 20, 560, 300
_SERVICE = "crossfade"
_MARKS = (1, 2, 5)
_LABEL = 14.0  # pixels that a line of text needs

_PICTURE = Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 380" role="img"
  font-family="system-ui, sans-serif" font-size="12">
<title>Latency over the rate: POST and row, median and p99</title>
<rect width="760" height="380" fill="#fff"/>
$grid
$lines
<text x="340" y="368" text-anchor="middle" fill="#444">messages a second, Poisson arrivals</text>
<text x="14" y="170" transform="rotate(-90 14 170)" text-anchor="middle"
  fill="#444">milliseconds from when it was due</text>
</svg>
""")


class _Line(NamedTuple):
    label: str
    colour: str
    dashes: str
    of: Callable[[Point], float]


_LINES = (
    _Line("row p99", "#c2410c", "none", lambda p: p.row_ms[1]),
    _Line("row p50", "#c2410c", "4 4", lambda p: p.row_ms[0]),
    _Line("POST p99", "#1d4ed8", "none", lambda p: p.post_ms[1]),
    _Line("POST p50", "#1d4ed8", "4 4", lambda p: p.post_ms[0]),
)


class _Axis(NamedTuple):
    low: float
    high: float

    def share(self, value: float) -> float:
        """Return the position of a value on the axis, from 0 to 1."""
        span = math.log10(self.high / self.low)
        return math.log10(max(value, self.low) / self.low) / span

    def marks(self) -> list[float]:
        """Return the round values on the axis."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [mark * 10.0**power for power in powers for mark in _MARKS]
        return [value for value in values if self.low <= value <= self.high]


def draw(points: Iterable[Point]) -> str:
    """Return the picture of the open-loop points of this service.

    Raises:
        ValueError: no point of this service is from an open loop.
    """
    chosen = sorted(
        ((p.rate, p) for p in points if p.name == _SERVICE and p.rate), key=lambda point: point[0]
    )
    if not chosen:
        raise ValueError("there is no open loop in it: make bench ARGS='--only rates' measures one")
    values = [line.of(point) for _, point in chosen for line in _LINES]
    across = _axis([rate for rate, _ in chosen])
    up = _axis(values)
    paths = [[_at(across, up, rate, line.of(point)) for rate, point in chosen] for line in _LINES]
    beside = _apart([places[-1][1] for places in paths])
    lines = [_line(*parts) for parts in zip(_LINES, paths, beside, strict=True)]
    return _PICTURE.substitute(grid="\n".join(_grid(across, up)), lines="\n".join(lines))


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights of the labels, with overlapping labels moved apart."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    apart = list(heights)
    for above, below in pairwise(order):
        lacking = _LABEL - (apart[below] - apart[above])
        if lacking > 0:
            apart[above] -= lacking / 2
            apart[below] += lacking / 2
    for above, below in pairwise(order):
        apart[below] = max(apart[below], apart[above] + _LABEL)
    return apart


def _axis(values: Sequence[float]) -> _Axis:
    return _Axis(min(values) / 1.3, max(values) * 1.3)


def _at(across: _Axis, up: _Axis, rate: float, value: float) -> tuple[float, float]:
    return _LEFT + across.share(rate) * _WIDE, _TOP + (1 - up.share(value)) * _HIGH


def _grid(across: _Axis, up: _Axis) -> Iterable[str]:
    for mark in up.marks():
        _, y = _at(across, up, across.low, mark)
        yield f'<path d="M{_LEFT} {y:.1f}h{_WIDE}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{mark:g}</text>'
    for mark in across.marks():
        x, _ = _at(across, up, mark, up.low)
        yield f'<path d="M{x:.1f} {_TOP}v{_HIGH}" stroke="#eee"/>'
        yield (
            f'<text x="{x:.1f}" y="{_TOP + _HIGH + 18}" text-anchor="middle" fill="#444">'
            f"{mark:,.0f}</text>"
        )


def _line(line: _Line, places: Sequence[tuple[float, float]], label: float) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    x, _ = places[-1]
    return (
        f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="2" '
        f'stroke-dasharray="{line.dashes}"/>\n'
        f'<text x="{x + 8:.1f}" y="{label + 4:.1f}" fill="{line.colour}">{line.label}</text>'
    )
