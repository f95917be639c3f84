"""Prints points as a table, with the medians of the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from lab.bench.figure import Point

__all__ = ["medians", "show_points"]

_WIDTH = 160


def medians(points: Iterable[Point]) -> list[Point]:
    """Return one point for each service and load, with the median of each figure."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.load, point.name), []).append(point)
    return [_median(group) for group in groups.values()]


def _median(group: Sequence[Point]) -> Point:
    def of(figure: Callable[[Point], float]) -> float:
        return round(statistics.median(figure(point) for point in group), 2)

    return Point(
        name=group[0].name,
        load=group[0].load,
        rate=group[0].rate,
        posts_per_second=of(lambda p: p.posts_per_second),
        rows_per_second=of(lambda p: p.rows_per_second),
        refused=max(point.refused for point in group),
        post_ms=[of(lambda p, n=n: p.post_ms[n]) for n in range(3)],  # type: ignore[misc]
        row_ms=[of(lambda p, n=n: p.row_ms[n]) for n in range(3)],  # type: ignore[misc]
        cpu_us={name: of(lambda p, n=name: p.cpu_us[n]) for name in group[0].cpu_us},  # type: ignore[misc]
        generator_cpu=of(lambda p: p.generator_cpu),
    )


def show_points(console: Console, points: Iterable[Point]) -> None:
    """Print the points, one load after the other."""
    console.width = console.width if console.is_terminal else _WIDTH
    table = Table(title="whole path: POST to committed row (ms: p50 / p99 / p99.9)")
    for name in ("load", "service"):
        table.add_column(name)
    for name in ("POST/s", "rows/s", "POST ms", "row ms", "CPU us a message", "refused"):
        table.add_column(name, justify="right")
    shown = ""
    for point in medians(points):
        if shown and point.load != shown:
            table.add_section()
        table.add_row(
            point.load if point.load != shown else "",
            point.name,
            f"{point.posts_per_second:,.0f}",
            f"{point.rows_per_second:,.0f}",
            " / ".join(f"{ms:,.1f}" for ms in point.post_ms),
            " / ".join(f"{ms:,.1f}" for ms in point.row_ms),
            " + ".join(f"{us:,.0f} {name}" for name, us in point.cpu_us.items()),
            f"{point.refused:,}" if point.refused else "",
        )
        shown = point.load
    console.print(table)
