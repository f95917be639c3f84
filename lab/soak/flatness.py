"""Decides whether a series grows: compares its end with its beginning, and with a limit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations

import msgspec

from lab.soak.measures import measure_of

__all__ = ["Flatness", "judge_series", "slope"]

_POINTS = 120
_BYTES_A_MB = 1e6
_ENOUGH = 8  # smallest number of points for a slope

Points = Sequence[tuple[float, float]]


class Flatness(msgspec.Struct, kw_only=True, rename="camel"):
    """The growth of one series after its warm-up, and its limit."""

    series: str
    unit: str
    first: float
    """The median of the first tenth of the judged points."""
    last: float
    """The median of the last tenth of the judged points."""
    highest: float
    an_hour: float
    """The slope per hour. It does not show a step, or a leak that begins late (see ``slope``)."""
    growth: float
    """``last`` minus ``first``: a value that rose and fell again is not a leak. For a series that
    grows by design: bytes per message."""
    limit: float
    """The largest allowed ``growth``."""

    @property
    def flat(self) -> bool:
        """Whether the series stays within its limit."""
        return self.growth <= self.limit


def judge_series(
    series: Mapping[str, Points], *, warm_up: float, messages: float
) -> list[Flatness]:
    """Judge each series that has enough points after its warm-up.

    Args:
        series: The points (seconds, value) of each series.
        warm_up: Seconds to leave out at the beginning.
        messages: Number of messages that were acknowledged after the warm-up.
    """
    found = []
    for name, points in series.items():
        judged = [point for point in points if point[0] >= warm_up]
        if len(judged) >= _ENOUGH:
            found.append(_judged(name, judged, messages))
    return found


def _judged(name: str, points: Points, messages: float) -> Flatness:
    measure = measure_of(name)
    values = [value for _, value in points]
    tenth = max(1, len(values) // 10)
    rate = slope(points)
    first, last = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
    growth = last - first
    limit = max(measure.share * first, measure.least, _spread(points, rate))
    if measure.per_message:
        growth, limit = growth * _BYTES_A_MB / max(1.0, messages), measure.least
    return Flatness(
        series=name,
        unit="B a message" if measure.per_message else measure.unit,
        first=first,
        last=last,
        highest=max(values),
        an_hour=rate * 3600,
        growth=growth,
        limit=limit,
    )


def _spread(points: Points, rate: float) -> float:
    """Return the noise of a series: the range of most of its values, with the slope removed.

    Growth below the noise means nothing. The result is the median of the three thirds of the
    series, so that a step or a late leak, which affects one third, does not raise the limit.
    """
    left = [value - rate * at for at, value in points]
    third = len(left) // 3
    return statistics.median(
        _most(part) for part in (left[:third], left[third:-third], left[-third:])
    )


def _most(values: Sequence[float]) -> float:
    deciles = statistics.quantiles(values, n=10)
    return deciles[-1] - deciles[0]


def slope(points: Points) -> float:
    """Return the Theil-Sen slope: the median of the slopes between all pairs of points.

    Up to almost a third of the points may be outliers without effect, such as those during a fault.
    A long series is thinned first.
    """
    thin = thinned(points, _POINTS)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(thin, 2) if b[0] > a[0]]
    return statistics.median(slopes) if slopes else 0.0


def thinned(points: Points, most: int) -> list[tuple[float, float]]:
    """Return at most ``most`` points, each the median of equally many neighbours."""
    size = max(1, -(-len(points) // most))
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [
        (
            statistics.median(at for at, _ in part),
            statistics.median(value for _, value in part),
        )
        for part in parts
    ]
