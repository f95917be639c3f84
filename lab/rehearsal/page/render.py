"""The page: ``page.html`` filled in with a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lab.rehearsal.page.pictures import pictures
from lab.rehearsal.report import RehearsalReport
from lab.rehearsal.timeline import FaultMark, StateSpan
from migration_guide.phases import log_title, phases

__all__ = ["milliseconds", "pages", "percent", "render"]

_CLOCK_STEPS = (5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
_MARKS = 16
_ORDER = ("ingress", "worker")
_LAST = "postgres"


class _Track(NamedTuple):
    """A process or a server over time: its states and its faults."""

    name: str
    spans: list[StateSpan]
    faults: list[FaultMark]


def pages(*packages: str) -> Environment:
    """Return the template environment of this package and of ``packages``."""
    made = Environment(
        loader=ChoiceLoader(
            [PackageLoader(name, ".") for name in ("lab.rehearsal.page", *packages)]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "milliseconds": milliseconds}
    return made


def render(report: RehearsalReport) -> str:
    """Return the page as HTML; it loads nothing from a network."""
    template = pages().get_template("page.html")
    return template.render(
        report=report,
        title=_title(report),
        command=_command(report),
        charts=pictures(report.series, report.options.pair),
        tracks=list(_tracks(report)),
        length=report.series.step * len(report.series.ok),
        marks=list(_marks(report)),
        names={number: phase.name for number, phase in enumerate(phases(report.options.pair))},
        data=_data(report),
    )


def percent(share: float | None) -> str:
    """Return a share as text; a share below 1 is never rounded up to 100 %."""
    if share is None:
        return "-"
    return "100 %" if share == 1 else f"{min(share * 100, 99.99):.2f} %"


def milliseconds(value: float | None) -> str:
    """Return a duration as text."""
    if value is None:
        return "-"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms"


def _title(report: RehearsalReport) -> str:
    messages = f"{report.totals.messages:,} messages"
    if not report.passed:
        broken = [f"{count} {name}" for name, count in report.verdict.items() if count]
        return f"{messages}, and {', '.join(broken) or 'the walk stopped early'}"
    there = max((phase.phase for phase in report.phases), default=0)
    back = there == 5 and report.phases[-1].phase == 0
    old, new = (log_title(name) for name in report.options.pair.names)
    way = f"from {old} to {new} and back" if back else f"to phase {there}"
    return f"{messages} {way}: none lost, doubled or reordered"


def _command(report: RehearsalReport) -> str:
    options = report.options
    parts = [
        "crossfade migrate rehearse",
        f"--seconds-per-phase {options.seconds_per_phase:g}"
        if options.minutes is None
        else f"--minutes {options.minutes:g}",
        *([f"--rate {options.rate:g}"] if options.rate else []),
        *([f"--conversations {options.conversations}"] if options.conversations else []),
        f"--ingresses {options.ingresses}",
        f"--workers {options.workers}",
        f"--seed {options.seed}",
        f"--from {options.pair.old} --to {options.pair.new}",
    ]
    if options.large:
        parts.append(f"--large {options.large:g}")
    parts += ["--s3"] if options.s3 else []
    return " ".join([*parts, *(["--faults"] if options.faults else [])])


def _marks(report: RehearsalReport) -> Iterator[int]:
    """Yield the labelled seconds of the time axis."""
    length = report.series.step * len(report.series.ok)
    step = next((step for step in _CLOCK_STEPS if length / step <= _MARKS), _CLOCK_STEPS[-1])
    yield from range(step, int(length * 0.985), step)


def _tracks(report: RehearsalReport) -> Iterator[_Track]:
    def place(name: str) -> tuple[int, str]:
        kind = name.partition("-")[0]
        if kind in _ORDER:
            return _ORDER.index(kind), name
        return len(_ORDER) + (name == _LAST), name

    for name in sorted(report.tracks, key=place):
        spans = [
            span for span in report.tracks[name] if span.state != "down" and span.ended is not None
        ]
        yield _Track(name, spans, [fault for fault in report.faults if fault.victim == name])


def _data(report: RehearsalReport) -> Markup:
    """Return the script's input as JSON, with ``<`` escaped: ``</script>`` would end the script."""
    kept = {"series": report.series, "phases": report.phases, "faults": report.faults}
    return Markup(msgspec.json.encode(kept).decode().replace("<", "\\u003c"))  # noqa: S704 - JSON
