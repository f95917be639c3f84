"""Figures as text, for the terminal, the page and Markdown."""

from __future__ import annotations

from lab.soak.flatness import Flatness
from lab.soak.report import SoakReport

__all__ = ["duration", "figure", "numbers", "table"]

HEADINGS = ("series", "at first", "at last", "highest", "an hour", "grew by", "may grow by", "")


def duration(seconds: float) -> str:
    """Return a duration as text."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def figure(value: float, *, sign: bool = False) -> str:
    """Return a number as text with about three digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    return text if value else "0"


def table(report: SoakReport) -> list[tuple[str, ...]]:
    """Return a row for each judged series, those that grow first."""
    return [
        _row(judgement)
        for judgement in sorted(report.flatness, key=lambda judgement: judgement.flat)
    ]


def _row(judgement: Flatness) -> tuple[str, ...]:
    per_message = judgement.unit.startswith("B a")
    own = "MB" if per_message else judgement.unit
    unit = f" {own}" if own else ""
    grown = f" {judgement.unit}" if judgement.unit else ""
    return (
        judgement.series,
        f"{figure(judgement.first)}{unit}",
        f"{figure(judgement.last)}{unit}",
        f"{figure(judgement.highest)}{unit}",
        f"{figure(judgement.an_hour, sign=True)}{unit}",
        f"{figure(judgement.growth, sign=True)}{grown}",
        f"{figure(judgement.limit)}{grown}",
        "flat" if judgement.flat else "GROWS",
    )


def numbers(report: SoakReport) -> list[tuple[str, str]]:
    """Return the names and values of the totals."""
    faults = sum(count for ways in report.faults.values() for count in ways.values())
    share = report.answered / report.posts if report.posts else 0.0
    return [
        ("length", duration(report.seconds)),
        ("rounds", f"{report.rounds:,}"),
        ("messages acknowledged", f"{report.messages:,}"),
        ("rows", f"{report.rows:,}"),
        ("rows archived", f"{report.archived:,}"),
        ("POSTs answered", f"{100 * share:.2f} % of {report.posts:,}"),
        ("faults", f"{faults:,}"),
        ("longest until it went on", f"{report.longest_fault:.1f} s"),
        ("lag, p95", "-" if report.lag_p95 is None else f"{report.lag_p95:,.0f}"),
    ]
