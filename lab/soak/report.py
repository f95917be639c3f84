"""The report of a soak, made from its record; the source of the table, the JSON and the page."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

import msgspec

from lab.rehearsal.report import PROMISES, Finding
from lab.soak.coverage import shortfalls, unseen
from lab.soak.flatness import Flatness, judge_series
from lab.soak.options import SoakOptions
from lab.soak.record import SoakRecord

__all__ = ["SoakReport", "make_report"]

_FINDINGS = 100
_POINTS = 400


class SoakReport(msgspec.Struct, kw_only=True, rename="camel"):
    """The report of a soak. Times are seconds since ``started_at``."""

    version: int = 1
    started_at: str
    seconds: float
    options: SoakOptions
    spared: list[str]
    why: str | None
    """Why it ended early; ``None`` if it did not."""
    sound: bool | None
    """Whether every judged round kept every promise; ``None`` if no round was judged."""
    flat: bool | None
    """Whether nothing grows; ``None`` if the run was too short to tell, or ``unseen`` is not empty.
    """
    unseen: list[str]
    """Required series that could not be read for a part of the run."""
    shortfalls: list[str]
    """Sentences about load that was missing."""
    passed: bool | None = None
    """Whether the soak passed; ``None`` if every promise was kept and growth is unknown."""
    sentence: str = ""
    """The outcome as a sentence."""
    verdict: dict[str, int]
    """Violations by promise."""
    findings: list[Finding]
    rounds: int
    """Number of judged rounds."""
    begun: int | None
    """Number of rounds that began; ``None`` if unknown, since the soak's process was killed."""
    messages: int
    posts: int
    answered: int
    rows: int
    archived: int
    faults: dict[str, dict[str, int]]
    """Number of faults by victim and way."""
    longest_fault: float
    """The longest time from the end of a fault until the load went on, in seconds."""
    lag_p95: float | None
    warm_up: float
    judged: float
    """Seconds with load after the warm-up, which are judged for growth."""
    flatness: list[Flatness]
    step: float
    """Seconds between two values of ``points``."""
    points: dict[str, list[float | None]]
    """The series, thinned to medians; ``None`` where nothing is known."""

    @property
    def growing(self) -> list[Flatness]:
        """The series that grow."""
        return [judgement for judgement in self.flatness if not judgement.flat]


def make_report(record: SoakRecord) -> SoakReport:
    """Make the report of a record, which may be incomplete."""
    options, seconds = record.began.options, record.seconds
    loaded = record.rounds[-1].ended if record.rounds else seconds
    series = record.series()
    # Leave out the time after the load, when the service had nothing to do.
    warm_up = options.warm_up(seconds)
    series = {
        name: before
        for name, points in series.items()
        if (before := [point for point in points if point[0] <= max(loaded, warm_up)])
    }
    judged = max(0.0, loaded - warm_up)
    rounds = record.rounds
    messages = sum(round_.messages for round_ in rounds)
    flatness = judge_series(
        series, warm_up=warm_up, messages=messages * judged / loaded if loaded else 0.0
    )
    long_enough = judged >= options.judged_seconds and bool(flatness)
    missed = unseen(record, series, begins=warm_up, ends=loaded) if long_enough else []
    grows = any(not judgement.flat for judgement in flatness)
    verdict = Counter(dict.fromkeys(PROMISES, 0))
    for round_ in rounds:
        verdict.update(round_.verdict)
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
        sound=not any(verdict.values()) if rounds else None,
        flat=None if not long_enough else False if grows else None if missed else True,
        unseen=missed,
        shortfalls=shortfalls(record.began, rounds),
        verdict=dict(verdict),
        findings=[finding for round_ in rounds for finding in round_.findings][:_FINDINGS],
        rounds=len(rounds),
        begun=record.ended.rounds if record.ended is not None else None,
        messages=messages,
        posts=sum(round_.posts for round_ in rounds),
        answered=sum(round_.answered for round_ in rounds),
        rows=sum(round_.rows for round_ in rounds),
        archived=sum(round_.archived for round_ in rounds),
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
    healthy = report.sound and report.flat is not False and not report.shortfalls and why is None
    report.passed = report.flat if healthy else False
    report.sentence = _sentence(report)
    return report


def _sentence(report: SoakReport) -> str:
    said = [_kept(report), *report.shortfalls, _grown(report)]
    if report.unseen:
        said.append(f"not seen for a part of the run: {', '.join(report.unseen)}")
    if report.why:
        said.append(f"ended early: {report.why}")
    return "; ".join(said)


def _kept(report: SoakReport) -> str:
    """Return the verdict on the promises as text, with the number of judged rounds."""
    if not report.rounds:
        return "no round was judged: whether anything was lost is unknown"
    broken = [f"{count} {name}" for name, count in report.verdict.items() if count]
    said = ", ".join(broken) if broken else "nothing lost, doubled or reordered"
    if report.begun is not None and report.begun > report.rounds:
        return f"{said} in the {report.rounds} of {report.begun} rounds that were judged"
    if report.begun is None and report.why:
        return f"{said} in the {report.rounds} rounds that were judged"
    return said


def _grown(report: SoakReport) -> str:
    grown = [judgement.series for judgement in report.growing]
    if report.flat is False:
        return f"{', '.join(grown)} {'grows' if len(grown) == 1 else 'grow'}"
    if not report.flatness or report.judged < report.options.judged_seconds:
        return (
            f"{report.judged / 60:.0f} minutes without the warm-up are too short to tell "
            f"whether anything grows ({report.options.judged_seconds / 60:.0f} are not)"
        )
    return f"none of {len(report.flatness)} series grows"


def _faults(record: SoakRecord) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for fault in record.faults:
        ways = found.setdefault(fault.victim, {})
        ways[fault.way] = ways.get(fault.way, 0) + 1
    return dict(sorted(found.items()))


def _thin(
    series: Mapping[str, list[tuple[float, float]]], seconds: float
) -> tuple[float, dict[str, list[float | None]]]:
    """Return the step in seconds, and each series with one median per step."""
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
