"""The page, put together from its parts."""

from __future__ import annotations

from html import escape
from importlib.resources import files

import msgspec

from compose.rehearsal.page import tables
from compose.rehearsal.page.pictures import pictures, strip
from compose.rehearsal.report import RehearsalReport

__all__ = ["render"]

_HINT = (
    "Phases of the migration. Point at a picture for the figures of that moment; the darker parts "
    "are rolling restarts."
)


def render(report: RehearsalReport) -> str:
    """Return the page. It asks nothing of any network."""
    options = report.options
    walk = " → ".join(str(one.phase) for one in report.phases)
    title = _title(report)
    who = (
        f"{options.ingresses} ingress and {options.workers} worker processes, real Redis, Kafka "
        f"and PostgreSQL, {len(report.faults) or 'no'} faults, {report.seconds / 60:.1f} minutes"
    )
    faulty = tables.faults(report)
    gates = tables.gates(report)
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_text('page.css')}</style></head><body><main>",
            f'<header><span class="badge {"" if report.passed else "broken"}">',
            f"REHEARSAL {'PASSED' if report.passed else 'FAILED'}</span><h1>{escape(title)}</h1>",
            f"<p>{escape(who)}. {escape(report.started_at)}, phases {walk}.</p></header>",
            '<div class="fade"></div>',
            tables.verdict(report),
            tables.findings(report),
            tables.numbers(report),
            f'<div class="time"><div class="readout"><span>{_HINT}</span>',
            f"</div>{strip(report)}</div>",
            pictures(report),
            f"<section><h2>By phase</h2>{tables.phases(report)}</section>",
            f'<section class="gates"><h2>Gates</h2>{gates}</section>' if gates else "",
            f'<details class="faults"><summary>{len(report.faults)} faults</summary>{faulty}'
            "</details>"
            if faulty
            else "",
            f"<footer><p>The same dice again: <code>{escape(_command(report))}</code></p></footer>",
            f'</main><script type="application/json" id="data">{_data(report)}</script>',
            f"<script>{_text('page.js')}</script></body></html>",
        )
    )


def _title(report: RehearsalReport) -> str:
    messages = f"{report.totals.messages:,} messages"
    if not report.passed:
        broken = [f"{count} {name}" for name, count in report.verdict.items() if count]
        return f"{messages}, and {', '.join(broken) or 'the walk stopped early'}"
    there = max((one.phase for one in report.phases), default=0)
    back = there == 5 and report.phases[-1].phase == 0
    way = "from Redis to Kafka and back" if back else f"to phase {there}"
    return f"{messages} {way}: none lost, doubled or reordered"


def _command(report: RehearsalReport) -> str:
    options = report.options
    parts = [
        "crossfade migrate rehearse",
        f"--seconds-per-phase {options.seconds_per_phase:g}"
        if options.minutes is None
        else f"--minutes {options.minutes:g}",
        f"--rate {options.rate:g}",
        f"--conversations {options.conversations}",
        f"--ingresses {options.ingresses}",
        f"--workers {options.workers}",
        f"--seed {options.seed}",
    ]
    return " ".join([*parts, *(["--faults"] if options.faults else [])])


def _data(report: RehearsalReport) -> str:
    """Return what the script reads. ``</script>`` can't stand in it."""
    kept = {"series": report.series, "phases": report.phases, "faults": report.faults}
    return msgspec.json.encode(kept).decode().replace("<", "\\u003c")


def _text(name: str) -> str:
    return (files(__package__ or "") / name).read_text("utf-8")
