"""The report on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from compose.console import plain
from compose.rehearsal.page.tables import milliseconds, percent
from compose.rehearsal.report import Report
from migration_guide.choice import CHOICES

__all__ = ["show"]

_SHOWN = 12


def show(console: Console, report: Report, page: Path) -> None:
    """Print the verdict, a line for each phase, and where the page is."""
    console.print(_phases(report))
    console.print(_verdict(report))
    for finding in report.findings[:_SHOWN]:
        console.print(f"  [red]{finding.what}[/] {plain(f'[{finding.where}] {finding.facts}')}")
    if report.stopped:
        console.print(f"[red]stopped early:[/] {plain(report.stopped)}")
    totals = report.totals
    records = ", ".join(f"{count:,} records in {name}" for name, count in totals.records.items())
    console.print(
        f"{totals.messages:,} messages acknowledged, {totals.rows:,} rows, {records}; "
        f"{percent(report.overall.availability)} of {report.overall.posts:,} POSTs answered; "
        f"{len(report.faults)} faults; {report.seconds:.0f} s"
    )
    console.print("[green]passed[/]" if report.passed else "[red]failed[/]", plain(str(page)))


def _phases(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("phase", "settings"):
        table.add_column(name)
    for name in ("for", "POSTs", "answered", "restarting", "p50", "p99", "faults"):
        table.add_column(name, justify="right")
    for one in report.phases:
        choice = CHOICES[one.phase]
        shadow = f" > {choice.shadow} {choice.mode}" if choice.shadow else ""
        table.add_row(
            f"{one.phase}{' back' if one.back else ''}",
            f"{choice.transport}{shadow}, reads {choice.consume_from}",
            f"{one.ended - one.begun:.0f} s",
            f"{one.posts:,}",
            percent(one.availability),
            percent(one.restarting.availability),
            milliseconds(one.p50_ms),
            milliseconds(one.p99_ms),
            str(one.faults),
        )
    return table


def _verdict(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in report.verdict:
        table.add_column(name, justify="right")
    table.add_row(
        *(f"[{'red' if count else 'green'}]{count}[/]" for count in report.verdict.values())
    )
    return table
