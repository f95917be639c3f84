"""The report on a terminal."""

from __future__ import annotations

from pathlib import Path

from compose.grid import Grid
from compose.terminal import Terminal, styled
from lab.soak.page.words import HEADINGS, duration, numbers, table
from lab.soak.report import SoakReport

__all__ = ["show"]

_SHOWN = 12
_DROP = (0, 3, 2, 4, 5, 0, 1, 0)


def show(console: Terminal, report: SoakReport, page: Path) -> None:
    """Print a line for each series, the verdict, and the path of the page."""
    grid = Grid()
    grid.add_column(HEADINGS[0])
    for heading, drop in zip(HEADINGS[1:], _DROP[1:], strict=True):
        grid.add_column(heading, right=True, drop=drop)
    for row in table(report):
        grid.add_row(*row, style="red" if row[-1] != "flat" else None)
    grid.caption = (
        f"judged: {duration(report.judged)}, after a warm-up of {duration(report.warm_up)}"
    )
    console.print(grid)
    console.print(", ".join(f"{value} {name}" for name, value in numbers(report)))
    for finding in report.findings[:_SHOWN]:
        console.print(styled("  ", (finding.what, "red"), f" [{finding.where}] {finding.facts}"))
    colour = {True: "green", False: "red", None: "yellow"}[report.passed]
    console.print(styled((report.sentence, colour)))
    console.print(str(page))
