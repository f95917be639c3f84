"""The report of a soak, made from its record: the table, the JSON and the page come from it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

import msgspec

from compose.rehearsal.report import PROMISES, Finding
from compose.soak.flatness import Flatness, judge_series
from compose.soak.options import SoakOptions
from compose.soak.record import SoakRecord

__all__ = ["SoakReport", "make_report"]

_FINDINGS = 100
_POINTS = 400


class SoakReport(msgspec.Struct, kw_only=True, rename="camel"):
    """A soak. Times are seconds since ``started_at``."""

    version: int = 1
    started_at: str
    seconds: float
    options: SoakOptions
    spared: list[str]
    why: str | None
    """Why it ended early."""
    sound: bool
    """Whether every promise was kept, in every round."""
    flat: bool | None
    """Whether nothing grows; ``None``: the run was too short to tell."""
    passed: bool | None = None
    """Whether all is well; ``None`` where it is, and the run was too short to tell."""
    sentence: str = ""
    """The outcome in words."""
    verdict: dict[str, int]
    findings: list[Finding]
    rounds: int
    messages: int
    posts: int
    answered: int
    rows: int
    archived: int
    faults: dict[str, dict[str, int]]
    """How many, by victim and way."""
    longest_fault: float
    """The longest time from the end of a fault until the load went on, in seconds."""
    lag_p95: float | None
    warm_up: float
    judged: float
    """How many seconds were judged, after the warm-up."""
    flatness: list[Flatness]
    step: float
    """Seconds between two values of ``points``."""
    points: dict[str, list[float | None]]
    """The series, thinned: medians; ``None`` where nothing is known."""

    @property
    def growing(self) -> list[Flatness]:
        """The series that grow."""
        return [one for one in self.flatness if not one.flat]


def make_report(record: SoakRecord) -> SoakReport:
    """Make the report of a record, whole or not."""
    options, seconds = record.began.options, record.seconds
    loaded = record.rounds[-1].ended if record.rounds else seconds
    series = record.series()
    # What is seen after the load is of a service with nothing to do.
    warm_up = options.warm_up(seconds)
    series = {
        name: [point for point in points if point[0] <= max(loaded, warm_up)]
        for name, points in series.items()
    }
    judged = max(0.0, loaded - warm_up)
    rounds = record.rounds
    messages = sum(one.messages for one in rounds)
    flatness = judge_series(
        series, warm_up=warm_up, messages=messages * judged / loaded if loaded else 0.0
    )
    told = judged >= options.judged_seconds and bool(flatness)
    verdict = Counter(dict.fromkeys(PROMISES, 0))
    for one in rounds:
        verdict.update(one.verdict)
    lags = [
        value for name, points in series.items() if name.startswith("lag/") for _, value in points
    ]
    why = record.ended.why if record.ended is not None else "its process was killed"
    step, points = _thin(series, seconds)
    report = SoakReport(
        started_at=record.began.started_at,
        seconds=seconds,
        options=options,
        spared=record.began.spared,
        why=why,
        sound=not any(verdict.values()),
        flat=all(one.flat for one in flatness) if told else None,
        verdict=dict(verdict),
        findings=[finding for one in rounds for finding in one.findings][:_FINDINGS],
        rounds=len(rounds),
        messages=messages,
        posts=sum(one.posts for one in rounds),
        answered=sum(one.answered for one in rounds),
        rows=sum(one.rows for one in rounds),
        archived=sum(one.archived for one in rounds),
        faults=_faults(record),
        longest_fault=max(
            (f.went_on - f.healed for f in record.faults if f.went_on and f.healed), default=0.0
        ),
        lag_p95=statistics.quantiles(lags, n=20)[-1] if len(lags) > 1 else None,
        warm_up=warm_up,
        judged=judged,
        flatness=flatness,
        step=step,
        points=points,
    )
    healthy = report.sound and report.flat is not False and why is None
    report.passed = report.flat if healthy else False
    report.sentence = _sentence(report)
    return report


def _sentence(report: SoakReport) -> str:
    broken = [f"{count} {name}" for name, count in report.verdict.items() if count]
    grown = [one.series for one in report.growing]
    said = ", ".join(broken) if broken else "nothing lost, doubled or reordered"
    if report.flat is None:
        said += (
            f"; {report.judged / 60:.0f} minutes without the warm-up are too short to tell "
            f"whether anything grows ({report.options.judged_seconds / 60:.0f} are not)"
        )
    elif grown:
        said += f"; {', '.join(grown)} {'grows' if len(grown) == 1 else 'grow'}"
    else:
        said += f"; none of {len(report.flatness)} series grows"
    return f"{said}; ended early: {report.why}" if report.why else said


def _faults(record: SoakRecord) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for fault in record.faults:
        ways = found.setdefault(fault.victim, {})
        ways[fault.way] = ways.get(fault.way, 0) + 1
    return dict(sorted(found.items()))


def _thin(
    series: Mapping[str, list[tuple[float, float]]], seconds: float
) -> tuple[float, dict[str, list[float | None]]]:
    """Return each series in equal steps of time, all of them in the same ones."""
    longest = max((len(points) for points in series.values()), default=1)
    count = max(1, min(_POINTS, longest))
    step = max(seconds, 0.001) / count
    thin: dict[str, list[float | None]] = {}
    for name, points in series.items():
        parts: list[list[float]] = [[] for _ in range(count)]
        for at, value in points:
            parts[min(count - 1, int(at / step))].append(value)
        thin[name] = [round(statistics.median(part), 3) if part else None for part in parts]
    return step, thin
