"""The tables of the page: the verdict, the phases, the gates, the faults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from compose.rehearsal.report import RehearsalReport
from migration_guide.phases import PHASES

__all__ = ["faults", "findings", "gates", "numbers", "phases", "verdict"]


def verdict(report: RehearsalReport) -> str:
    """Return one tile for each promise."""
    tiles = "".join(
        f'<li class="{"good" if not count else "broken"}"><b>{count}</b><span>{escape(name)}</span>'
        "</li>"
        for name, count in report.verdict.items()
    )
    return f'<ul class="tiles">{tiles}</ul>'


def numbers(report: RehearsalReport) -> str:
    """Return how much there was to judge."""
    totals, overall = report.totals, report.overall
    facts = [
        ("messages acknowledged", f"{totals.messages:,}"),
        ("rows", f"{totals.rows:,}"),
        *((f"records in {name}", f"{count:,}") for name, count in totals.records.items()),
        ("answers to repeats", f"{totals.repeats:,}"),
        ("POSTs answered", percent(overall.availability)),
        ("… at the first try", percent(overall.first_try)),
        ("p50", milliseconds(overall.p50_ms)),
        ("p99", milliseconds(overall.p99_ms)),
        ("faults", str(len(report.faults))),
        ("dead letters", _letters(totals.dead_letters)),
    ]
    return (
        '<dl class="numbers">'
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in facts)
        + "</dl>"
    )


def phases(report: RehearsalReport) -> str:
    """Return how clients fared in each phase of the walk."""
    rows = [
        (
            (
                f'<i class="dot p{one.phase}"></i>{one.phase} {PHASES[one.phase].name}'
                f"{' <small>back</small>' if one.back else ''}"
            ),
            f"{one.ended - one.begun:.0f} s",
            f"{one.posts:,}",
            percent(one.availability),
            percent(one.first_try),
            percent(one.restarting.availability) if one.restarting.posts else "",
            milliseconds(one.p50_ms),
            milliseconds(one.p99_ms),
            str(one.faults),
        )
        for one in report.phases
    ]
    head = (
        "phase",
        "for",
        "POSTs",
        "answered",
        "… at the first try",
        "… in its restarts",
        "p50",
        "p99",
        "faults",
    )
    return _table(head, rows)


def gates(report: RehearsalReport) -> str:
    """Return what stood between the phases, and what each gate said when it let the step pass."""
    rows = []
    for mark in report.gates:
        took = "not passed" if mark.passed is None else f"{mark.passed - mark.begun:.1f} s"
        waited = "".join(
            f'<small title="{escape(one.reason)}">{escape(one.name)} {one.seconds:.0f} s</small>'
            for one in mark.waited
        )
        said = "".join(
            f'<li class="{escape(str(one.get("verdict", "")))}"><b>{escape(str(one["name"]))}</b> '
            f"{escape(str(one.get('reason', '')))}</li>"
            for one in mark.gates
        )
        rows.append((f"{mark.frm} → {mark.to}", took + waited, f'<ul class="said">{said}</ul>'))
    return _table(("step", "took", "gates"), rows) if rows else ""


def faults(report: RehearsalReport) -> str:
    """Return every fault, and how long after it the load was seen to go on."""
    rows = [
        (
            f"{one.begun:.1f} s",
            (
                f'<i class="dot p{one.phase}"></i>{one.phase}'
                f"{' <small>restarting</small>' if one.rolling else ''}"
            ),
            escape(one.victim),
            one.way,
            "" if one.healed is None else f"{one.healed - one.begun:.1f} s",
            ""
            if one.went_on is None or one.healed is None
            else f"{one.went_on - one.healed:.1f} s",
        )
        for one in report.faults
    ]
    head = ("at", "phase", "victim", "fault", "lasted", "20 more acknowledged after")
    return _table(head, rows) if rows else ""


def findings(report: RehearsalReport) -> str:
    """Return what is wrong, if anything."""
    if report.passed:
        return ""
    items = "".join(
        f"<li><b>{escape(one.what)}</b> <code>{escape(one.where)}</code> {escape(one.facts)}</li>"
        for one in report.findings
    )
    why = f"<p>Stopped early: {escape(report.stopped)}</p>" if report.stopped else ""
    return f'<section class="findings"><h2>What is wrong</h2>{why}<ol>{items}</ol></section>'


def percent(share: float | None) -> str:
    """Return a share for people; never rounded up to 100 %."""
    if share is None:
        return "-"
    return "100 %" if share == 1 else f"{min(share * 100, 99.99):.2f} %"


def milliseconds(value: float | None) -> str:
    """Return a duration for people."""
    if value is None:
        return "-"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms"


def _letters(counts: dict[str, int]) -> str:
    others = counts.get("others", 0)
    injected = counts.get("injected", 0)
    return f"{others} <small>and {injected} provoked</small>" if injected else str(others)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead>{lines}</table></div>'
