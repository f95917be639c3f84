"""The report on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType

from compose.grid import Grid
from compose.terminal import Terminal, styled
from lab.rehearsal.page.render import milliseconds, percent
from lab.rehearsal.report import RehearsalReport, SecondOpinion
from migration_guide.phases import phases

__all__ = ["show"]

_SHOWN = 12
# Column names, and how early each is dropped on a narrow terminal (0: never). "then" is the p99
# after the restarts, "last row" the longest delay of a row.
_COLUMNS = {
    "for": 3, "POSTs": 0, "answered": 0, "at once": 5, "restarting": 4, "p50": 2, "p99": 0,
    "then": 2, "row p99": 2, "last row": 1, "faults": 1,
}  # fmt: skip


def show(console: Terminal, report: RehearsalReport, page: Path) -> None:
    """Print the verdict, a line for each phase, and the path of the page."""
    console.print(_phases(report))
    console.print(_verdict(report))
    console.print(_second(report.second))
    console.print(_replayed(report))
    for finding in report.findings[:_SHOWN]:
        console.print(styled("  ", (finding.what, "red"), f" [{finding.where}] {finding.facts}"))
    if report.stopped:
        console.print(styled(("stopped early:", "red"), f" {report.stopped}"))
    totals = report.totals
    records = ", ".join(f"{count:,} records in {name}" for name, count in totals.records.items())
    large = f" ({totals.large:,} with large content)" if totals.large else ""
    console.print(
        f"{totals.messages:,} messages acknowledged{large}, {totals.rows:,} rows, {records}; "
        f"{percent(report.overall.availability)} of {report.overall.posts:,} POSTs answered, the "
        f"longest in {milliseconds(report.overall.max_ms)}; the latest row after "
        f"{milliseconds(report.rows.max_ms)}; "
        f"{len(report.faults)} faults; {report.seconds:.0f} s"
    )
    verdict = ("passed", "green") if report.passed else ("failed", "red")
    console.print(styled(verdict, f" {page}"))


def _phases(report: RehearsalReport) -> Grid:
    table = Grid()
    table.add_column("phase")
    for name, drop in _COLUMNS.items():
        table.add_column(name, right=True, drop=drop)
    for phase in report.phases:
        table.add_row(
            f"{phases(report.options.pair)[phase.phase].label}{' back' if phase.back else ''}",
            f"{phase.ended - phase.begun:.0f} s",
            f"{phase.posts:,}",
            percent(phase.availability),
            percent(phase.first_try),
            percent(phase.restarting.availability),
            milliseconds(phase.p50_ms),
            milliseconds(phase.p99_ms),
            milliseconds(phase.settled.p99_ms),
            milliseconds(phase.rows.p99_ms),
            milliseconds(phase.rows.max_ms),
            str(phase.faults),
        )
    return table


def _second(second: SecondOpinion) -> RenderableType:
    if second.missing is not None:
        text = f"NOT JUDGED by the second checker: {second.missing}"
        return styled((text, "yellow"))
    if second.agrees:
        return styled("judged by two checkers, ", ("they agree", "green"))
    broken = [f"{count} {name}" for name, count in second.verdict.items() if count]
    return styled(
        "judged by two checkers, ", ("they DISAGREE", "red"),
        f": the second found {', '.join(broken) or 'nothing'}",
    )  # fmt: skip


def _replayed(report: RehearsalReport) -> RenderableType:
    replayed = report.replayed
    if replayed is None:
        return styled((f"NOT REPLAYED against the specification: {report.not_replayed}", "yellow"))
    said = f"replayed against the specification: {replayed.conversations} conversations, "
    if not replayed.refused:
        undecided = len(replayed.undecided)
        allowed = (
            (f"{undecided} of {replayed.pieces} pieces UNDECIDED, the others allowed", "yellow")
            if undecided
            else ("all allowed", "green")
        )
        return styled(said, allowed, f" ({replayed.events:,} events)")
    first = replayed.refused[0]
    return styled(
        said, (f"{len(replayed.refused)} NOT ALLOWED", "red"),
        f": {first.conversation} after {'; '.join(first.after)}: {'; '.join(first.stuck)}",
    )  # fmt: skip


def _verdict(report: RehearsalReport) -> RenderableType:
    parts: list[str | tuple[str, str]] = []
    for name, count in report.verdict.items():
        parts += [", " if parts else "", (str(count), "red" if count else "green"), f" {name}"]
    return styled(*parts)
