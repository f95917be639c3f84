"""The report: the document behind the terminal table, the JSON file and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from lab.harness.anomaly import Anomaly, What
from lab.harness.content_name import is_large
from lab.harness.final import Final
from lab.harness.history import ClientHistory, RequestKind
from lab.rehearsal.figures import (
    PhaseFigures,
    Posts,
    Series,
    by_phase,
    first_tries,
    over_time,
    posts,
)
from lab.rehearsal.logs import Log
from lab.rehearsal.options import Options
from lab.rehearsal.rows import RowDelays, row_delays, summed_up
from lab.rehearsal.samples import Lag
from lab.rehearsal.second_judge import Opinion
from lab.rehearsal.timeline import FaultMark, GateMark, RehearsalTimeline, StateSpan
from lab.specification.replay import Replayed
from transport.contract import Reason

__all__ = [
    "PROMISES",
    "Finding",
    "RehearsalReport",
    "SecondOpinion",
    "Totals",
    "hear",
    "make_report",
    "take_replay",
    "verdict_of",
]

_FINDINGS = 200

PROMISES: Mapping[str, tuple[What, ...]] = {
    "lost": (What.LOST, What.CONFLICT_LOST, What.NOT_IN_LOG, What.POISON_VANISHED),
    "doubled": (What.DOUBLED,),
    "reordered": (What.REORDERED, What.LOG_REORDERED, What.TWO_HOMES, What.PAGE_DIFFERS),
    "ids changed": (What.ID_CHANGED,),
    "phantoms": (What.PHANTOM, What.ALTERED, What.BAD_COPY),
    "dead letters without cause": (What.DEAD_LETTERED,),
    "wrong answers": (
        What.REFUSED,
        What.FALSE_HIT,
        What.TIME_CHANGED,
        What.SERVER_ERROR,
        What.STUCK,
    ),
}
"""The kinds of anomaly that break each promise. Every kind belongs to one promise."""


class Finding(msgspec.Struct, rename="camel"):
    """One anomaly: its kind, its place, and the facts."""

    what: str
    where: str
    facts: str


class SecondOpinion(msgspec.Struct, kw_only=True, rename="camel"):
    """The verdict of the second checker, an independent program, on the same history."""

    verdict: dict[str, int] = {}
    """Violations by promise. The two checkers may count a violation differently."""
    findings: list[Finding] = []
    agrees: bool = False
    """Whether both checkers found the same promises kept."""
    missing: str | None = None
    """Why there is no verdict; ``None`` if there is one."""


class Totals(msgspec.Struct, kw_only=True, rename="camel"):
    """The amounts of data that were checked."""

    messages: int
    """Acknowledged messages, each counted once."""
    large: int = 0
    """The acknowledged messages whose content is in the payload store."""
    receipts: int
    repeats: int
    """Acknowledgements of a key that was acknowledged before."""
    rows: int
    receipt_rows: int
    records: dict[str, int]
    """Records in each log, including receipts and copies."""
    copies: dict[str, int]
    """Records that are copies from the other log, by shadow mode."""
    dead_letters: dict[str, int]


class RehearsalReport(msgspec.Struct, kw_only=True, rename="camel"):
    """The report of a rehearsal. Times are seconds since ``started_at``."""

    version: int = 1
    started_at: str
    seconds: float
    options: Options
    passed: bool
    stopped: str | None
    """Why it ended early (a gate stayed red, the service did not go on); ``None`` if it did not."""
    verdict: dict[str, int]
    """Violations by promise."""
    findings: list[Finding]
    """The first anomalies."""
    second: SecondOpinion = msgspec.field(
        default_factory=lambda: SecondOpinion(missing="it was not asked")
    )
    replayed: Replayed | None = None
    """The replay of some conversations against the specification of the order argument."""
    not_replayed: str | None = "the replay did not end"
    """Why there is no replay; ``None`` if there is one."""
    totals: Totals
    overall: Posts
    rows: RowDelays
    """The delays of rows in the whole walk."""
    phases: list[PhaseFigures]
    gates: list[GateMark]
    faults: list[FaultMark]
    tracks: dict[str, list[StateSpan]]
    series: Series


def make_report(
    *,
    options: Options,
    timeline: RehearsalTimeline,
    history: ClientHistory,
    final: Final,
    logs: Mapping[str, Log],
    lags: Sequence[Lag],
    anomalies: Sequence[Anomaly],
    stopped: str | None,
) -> RehearsalReport:
    """Make the report from the facts of a rehearsal. ``hear`` adds the second checker's verdict.

    The figures leave out requests from before the walk, which only measured a rate.
    """
    walked = _since(timeline.zero + timeline.bands[0].begun, history)
    delays = row_delays(walked, final.rows, timeline.clock()[0])
    return RehearsalReport(
        started_at=timeline.started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=timeline.now,
        options=options,
        passed=not anomalies and stopped is None,
        stopped=stopped,
        verdict=verdict_of(anomalies),
        findings=[Finding(a.what.name, a.where, a.facts) for a in anomalies[:_FINDINGS]],
        totals=_totals(history, final, logs),
        overall=posts(walked.attempts, first_tries(walked)),
        rows=summed_up(delays),
        phases=by_phase(walked, timeline, delays),
        gates=timeline.gates,
        faults=timeline.faults,
        tracks=timeline.tracks,
        series=over_time(walked, timeline, lags, logs, options.pair),
    )


def _since(moment: float, history: ClientHistory) -> ClientHistory:
    return ClientHistory([a for a in history.attempts if a.sent >= moment])


def verdict_of(anomalies: Sequence[Anomaly]) -> dict[str, int]:
    """Return the number of violations of each promise."""
    counts = Counter(anomaly.what for anomaly in anomalies)
    return {name: sum(counts[what] for what in kinds) for name, kinds in PROMISES.items()}


def hear(report: RehearsalReport, anomalies: Sequence[Anomaly], opinion: Opinion | str) -> None:
    """Add the second checker's verdict, or the reason why there is none."""
    if isinstance(opinion, str):
        report.second = SecondOpinion(missing=opinion)
        return
    # The second checker sees only the history, which does not show a service that stood still.
    first = verdict_of([a for a in anomalies if a.what is not What.STUCK])
    report.second = SecondOpinion(
        verdict=opinion.verdict,
        findings=[Finding(f["class"], f["where"], f["facts"]) for f in opinion.findings],
        agrees=all(bool(opinion.verdict[name]) == bool(first[name]) for name in first),
    )
    report.passed = report.passed and opinion.sound


def take_replay(report: RehearsalReport, replayed: Replayed | str) -> None:
    """Add the outcome of the replay, or the reason why there is none."""
    if isinstance(replayed, str):
        report.not_replayed = replayed
        return
    report.replayed, report.not_replayed = replayed, None
    report.passed = report.passed and not replayed.refused


def _totals(history: ClientHistory, final: Final, logs: Mapping[str, Log]) -> Totals:
    answers = Counter(a.key for a in history.acknowledged(RequestKind.MESSAGE))
    entries = {name: [e for part in log.values() for e in part] for name, log in logs.items()}
    modes = Counter(e.shadow_mode for all_of in entries.values() for e in all_of if e.mirror_of)
    return Totals(
        messages=len(answers),
        large=len({a.key for a in history.acknowledged() if is_large(a.content)}),
        receipts=len({a.key for a in history.acknowledged(RequestKind.RECEIPT)}),
        repeats=sum(answers.values()) - len(answers),
        rows=len(final.rows),
        receipt_rows=len(final.receipts),
        records={name: len(all_of) for name, all_of in entries.items()},
        copies={str(mode): count for mode, count in sorted(modes.items(), key=str)},
        dead_letters={
            "injected": sum(e.reason is Reason.IDEMPOTENCY_CONFLICT for e in final.letters),
            "others": sum(e.reason is not Reason.IDEMPOTENCY_CONFLICT for e in final.letters),
        },
    )
