"""Figures from the history: availability and latency for clients, by phase and over time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from lab.harness.history import ClientAttempt, ClientHistory, Outcome, RequestKind
from lab.rehearsal.logs import Log
from lab.rehearsal.quantiles import quantile
from lab.rehearsal.rows import RowDelay, RowDelays, summed_up
from lab.rehearsal.samples import Lag
from lab.rehearsal.timeline import Band, RehearsalTimeline
from persistence.fleet.log_choice import LogPair

__all__ = ["PhaseFigures", "Posts", "Series", "by_phase", "first_tries", "over_time", "posts"]


class Posts(msgspec.Struct, kw_only=True, rename="camel"):
    """The outcomes and latencies of POSTs. A correct refusal (422, another body) counts as ok."""

    posts: int
    ok: int
    """POSTs that were answered 2xx, or correctly refused."""
    unknown: int
    """POSTs that were answered 503, or not at all."""
    availability: float | None
    """``ok / posts``; ``None`` without POSTs. These clients ignore ``Retry-After`` and retry at
    once, so each second of an outage counts as many failures as they make tries."""
    first_try: float | None
    """The share of requests that were answered at the first try. A request includes its retries."""
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class PhaseFigures(Posts, kw_only=True):
    """The figures of one phase of the walk, including its rolling restart."""

    phase: int
    back: bool
    begun: float
    rolled: float
    ended: float
    faults: int
    restarting: Posts
    """The POSTs sent while processes were being restarted to this phase."""
    settled: Posts
    """The POSTs sent after all processes had been restarted."""
    rows: RowDelays
    """The rows of messages whose first try was in this phase."""


class Series(msgspec.Struct, kw_only=True, rename="camel"):
    """Series over time: one value per ``step`` seconds; ``None`` where nothing is known."""

    step: float
    ok: list[int]
    failed: list[int]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    lag: dict[str, list[int | None]]
    """Records after the workers' position, by log."""
    parity: dict[str, list[int | None]]
    """The service's own comparison of the logs: ``differing``, ``waiting``."""
    where: dict[str, list[int]]
    """Messages acknowledged in each step, by the logs that have them at the end: ``old``, ``new``
    (in that log only), ``both``, ``nowhere``."""


def first_tries(history: ClientHistory) -> frozenset[int]:
    """Return the ``id()`` of each attempt that is the first of its request."""
    first: dict[tuple[str, str], int] = {}
    for attempt in history.attempts:
        first.setdefault((attempt.key, attempt.content), id(attempt))
    return frozenset(first.values())


def posts(attempts: Iterable[ClientAttempt], first: frozenset[int]) -> Posts:
    """Return the figures of these attempts. ``first``: see ``first_tries``."""
    count = ok = unknown = tried = at_once = 0
    took: list[float] = []
    for attempt in attempts:
        if id(attempt) in first:
            tried += 1
            at_once += attempt.answered
        count += 1
        unknown += attempt.outcome is Outcome.UNKNOWN
        if attempt.answered:
            ok += 1
            took.append(attempt.took * 1000)
    took.sort()
    return Posts(
        posts=count,
        ok=ok,
        unknown=unknown,
        availability=ok / count if count else None,
        first_try=at_once / tried if tried else None,
        p50_ms=quantile(took, 0.5),
        p99_ms=quantile(took, 0.99),
        max_ms=round(took[-1], 2) if took else None,
    )


def by_phase(
    history: ClientHistory, timeline: RehearsalTimeline, delays: Sequence[RowDelay]
) -> list[PhaseFigures]:
    """Return the figures of each phase of the walk, in the order of the walk."""
    bands = timeline.bands
    of_band: list[list[ClientAttempt]] = [[] for _ in bands]
    rows_of_band: list[list[RowDelay]] = [[] for _ in bands]
    starts = [band.begun for band in bands]

    def at(sent: float) -> int:
        return max(0, bisect_right(starts, sent - timeline.zero) - 1)

    for attempt in history.attempts:
        of_band[at(attempt.sent)].append(attempt)
    for delay in delays:
        rows_of_band[at(delay.sent)].append(delay)
    first = first_tries(history)
    return [
        _phase(band, own, timeline, first, rows)
        for band, own, rows in zip(bands, of_band, rows_of_band, strict=True)
    ]


def _phase(
    band: Band,
    attempts: Sequence[ClientAttempt],
    timeline: RehearsalTimeline,
    first: frozenset[int],
    rows: Sequence[RowDelay],
) -> PhaseFigures:
    ended = band.ended if band.ended is not None else timeline.now
    rolled = band.rolled if band.rolled is not None else ended
    at = rolled + timeline.zero
    restarting = posts((a for a in attempts if a.sent < at), first)
    settled = posts((a for a in attempts if a.sent >= at), first)
    return PhaseFigures(
        **msgspec.structs.asdict(posts(attempts, first)),
        phase=band.phase,
        back=band.back,
        begun=band.begun,
        rolled=rolled,
        ended=ended,
        faults=sum(band.begun <= mark.begun < ended for mark in timeline.faults),
        restarting=restarting,
        settled=settled,
        rows=summed_up(rows),
    )


def over_time(
    history: ClientHistory,
    timeline: RehearsalTimeline,
    lags: Sequence[Lag],
    logs: Mapping[str, Log],
    pair: LogPair,
) -> Series:
    """Return the series of the whole rehearsal, with 600 points at most."""
    length = max((band.ended or timeline.now for band in timeline.bands), default=timeline.now)
    step = max(1.0, round(length / 600, 1))
    count = max(1, math.ceil(length / step))

    def at(moment: float) -> int:
        return min(count - 1, max(0, int(moment / step)))

    ok, failed = [0] * count, [0] * count
    took: list[list[float]] = [[] for _ in range(count)]
    contents = {
        "old" if name == pair.old else "new": {e.content for part in log.values() for e in part}
        for name, log in logs.items()
    }
    where = {name: [0] * count for name in ("both", "old", "new", "nowhere")}
    for attempt in history.attempts:
        if math.isinf(attempt.ended):
            continue
        bucket = at(attempt.ended - timeline.zero)
        if attempt.answered:
            ok[bucket] += 1
            took[bucket].append(attempt.took * 1000)
        else:
            failed[bucket] += 1
        if (
            attempt.kind is RequestKind.MESSAGE
            and attempt.outcome is Outcome.OK
            and not attempt.hit
        ):
            where[_where(attempt.content, contents)][bucket] += 1
    for values in took:
        values.sort()
    return Series(
        step=step,
        ok=ok,
        failed=failed,
        p50_ms=[quantile(values, 0.5) for values in took],
        p99_ms=[quantile(values, 0.99) for values in took],
        lag={
            name: _sampled(
                ((sample.at, sample.lag[name]) for sample in lags if name in sample.lag), count, at
            )
            for name in dict.fromkeys(name for sample in lags for name in sample.lag)
        },
        parity={
            name: _sampled(
                ((sample.at, getattr(sample.parity, name)) for sample in lags if sample.parity),
                count,
                at,
            )
            for name in ("differing", "waiting")
        },
        where=where,
    )


def _sampled(
    samples: Iterable[tuple[float, int | None]], count: int, place: Callable[[float], int]
) -> list[int | None]:
    """Return samples as a series, which has the last sample of each step."""
    values: list[int | None] = [None] * count
    for at, value in samples:
        values[place(at)] = value
    return values


def _where(content: str, contents: Mapping[str, set[str | None]]) -> str:
    found = [name for name, there in contents.items() if content in there]
    return "both" if len(found) > 1 else found[0] if found else "nowhere"
