"""The report on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType

from compose.rehearsal.page.tables import milliseconds, percent
from compose.rehearsal.report import Report
from compose.terminal import Grid, Terminal, styled
from migration_guide.phases import PHASES

__all__ = ["show"]

_SHOWN = 12


def show(console: Terminal, report: Report, page: Path) -> None:
    """Print the verdict, a line for each phase, and where the page is."""
    console.print(_phases(report))
    console.print(_verdict(report))
    for finding in report.findings[:_SHOWN]:
        console.print(styled("  ", (finding.what, "red"), f" [{finding.where}] {finding.facts}"))
    if report.stopped:
        console.print(styled(("stopped early:", "red"), f" {report.stopped}"))
    totals = report.totals
    records = ", ".join(f"{count:,} records in {name}" for name, count in totals.records.items())
    console.print(
        f"{totals.messages:,} messages acknowledged, {totals.rows:,} rows, {records}; "
        f"{percent(report.overall.availability)} of {report.overall.posts:,} POSTs answered; "
        f"{len(report.faults)} faults; {report.seconds:.0f} s"
    )
    verdict = ("passed", "green") if report.passed else ("failed", "red")
    console.print(styled(verdict, f" {page}"))


def _phases(report: Report) -> Grid:
    table = Grid()
    table.add_column("phase", no_wrap=True)
    for name in ("for", "POSTs", "answered", "at once", "restarting", "p50", "p99", "faults"):
        table.add_column(name, justify="right")
    for one in report.phases:
        table.add_row(
            f"{PHASES[one.phase].label}{' back' if one.back else ''}",
            f"{one.ended - one.begun:.0f} s",
            f"{one.posts:,}",
            percent(one.availability),
            percent(one.first_try),
            percent(one.restarting.availability),
            milliseconds(one.p50_ms),
            milliseconds(one.p99_ms),
            str(one.faults),
        )
    return table


def _verdict(report: Report) -> RenderableType:
    parts: list[str | tuple[str, str]] = []
    for name, count in report.verdict.items():
        parts += [", " if parts else "", (str(count), "red" if count else "green"), f" {name}"]
    return styled(*parts)
