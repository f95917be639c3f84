"""The report's charts over time, as data. All share one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.rehearsal.figures import Series
from lab.rehearsal.page.charts import Chart, decades, line, linear, stacked
from migration_guide.phases import log_title
from persistence.fleet.log_choice import LogPair

__all__ = ["pictures"]

Values = Sequence[float | None]


def pictures(series: Series, pair: LogPair) -> list[Chart]:
    """Return all charts of figures; the template draws the last chart, the processes."""
    return [
        _crossfade(series, pair),
        _throughput(series),
        _latency(series),
        _lag(series, pair),
        _parity(series),
    ]


def _crossfade(series: Series, pair: LogPair) -> Chart:
    where = {
        name: [value / series.step for value in series.where[name]]
        for name in ("old", "both", "new", "nowhere")
    }
    axis = linear(_highest(*where.values()), " /s")
    return Chart(
        "The crossfade",
        "acknowledged messages, by the log they stand in at the end",
        "messages a second by the log they stand in",
        {
            "old": f"only in {_title(pair.old)}",
            "both": "in both",
            "new": f"only in {_title(pair.new)}",
        },
        150,
        axis,
        stacked(((f"area {name}", values) for name, values in where.items()), axis),
    )


def _throughput(series: Series) -> Chart:
    ok = [value / series.step for value in series.ok]
    failed = [value / series.step for value in series.failed]
    axis = linear(_highest(ok, failed), " /s")
    return Chart(
        "Throughput",
        "POSTs a second: messages, repeats, receipts",
        "POSTs a second, answered and not",
        {"ok": "answered 2xx", "bad": "503 or no answer"},
        90,
        axis,
        stacked([("area ok", ok), ("area bad", failed)], axis),
    )


def _latency(series: Series) -> Chart:
    values = [value for value in series.p99_ms if value is not None]
    axis = decades(max(values, default=10.0), 0.5, _milliseconds)
    return Chart(
        "Latency",
        "of the answered ones, as a client sees it",
        "p50 and p99 of latency in milliseconds",
        {"p50": "p50", "p99": "p99"},
        110,
        axis,
        [line("line p99", series.p99_ms, axis), line("line p50", series.p50_ms, axis)],
    )


def _lag(series: Series, pair: LogPair) -> Chart:
    return _counts(
        "Lag",
        "records after the workers' position; no line where it can't be known",
        "records without a row, by log",
        {"old": _title(pair.old), "new": _title(pair.new)},
        {"old" if name == pair.old else "new": lag for name, lag in series.lag.items()},
    )


def _parity(series: Series) -> Chart:
    return _counts(
        "Parity",
        "what the service's own comparison of the two logs says, minute by minute; no line where "
        "there is one log only, or nobody can tell",
        "messages that differ, and those not yet comparable",
        {"bad": "differ or missing", "waits": "not yet comparable"},
        {"waits": series.parity["waiting"], "bad": series.parity["differing"]},
    )


def _counts(
    title: str, says: str, label: str, legend: dict[str, str], lines: Mapping[str, Values]
) -> Chart:
    """Return a chart of counts on a logarithmic axis, each plus one so that 0 can be drawn."""
    drawn = {
        kind: [None if value is None else value + 1 for value in values]
        for kind, values in lines.items()
    }
    every = [value for values in drawn.values() for value in values if value is not None]
    axis = decades(max([11, *every]), 1.0, lambda n: "0" if n == 1 else f"{n:,.0f}")
    paths = [line(f"line {kind}", values, axis) for kind, values in drawn.items()]
    return Chart(title, says, label, legend, 90, axis, paths)


def _title(log: str | None) -> str:
    return log_title(log) if log else "no log"


def _highest(*layers: Sequence[float]) -> float:
    return max((sum(values) for values in zip(*layers, strict=True)), default=1.0)


def _milliseconds(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
