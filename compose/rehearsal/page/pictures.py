"""The pictures over time. All share one axis of time, and the bands of the phases behind them."""

from __future__ import annotations

from html import escape

from compose.rehearsal.figures import PhaseFigures
from compose.rehearsal.page.charts import (
    HIGH,
    WIDE,
    canvas,
    decades,
    line,
    linear,
    stacked,
)
from compose.rehearsal.report import RehearsalReport
from compose.rehearsal.timeline import FaultMark
from migration_guide.phases import PHASES

__all__ = ["pictures", "strip"]

_LANE = 20  # pixels
_CLOCK_STEPS = (5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
_MARKS = 16
_NAME_NEEDS = 7.0  # percent of the width


def pictures(report: RehearsalReport) -> str:
    """Return every picture, as figures."""
    return "".join(
        (
            _crossfade(report),
            _throughput(report),
            _latency(report),
            _lag(report),
            _parity(report),
            _lanes(report),
        )
    )


def strip(report: RehearsalReport) -> str:
    """Return the phases as one bar, with room for what stands under the pointer."""
    boxes = "".join(
        f'<span class="p{one.phase}" style="left:{_share(report, one.begun):.3f}%;'
        f'width:{_share(report, one.ended - one.begun):.3f}%" title="phase {one.phase}, '
        f'{PHASES[one.phase].name}: {one.begun:.0f} s to {one.ended:.0f} s">'
        f"<b>{one.phase}</b>{_name(report, one)}</span>"
        for one in report.phases
    )
    return f'<div class="strip">{boxes}<i class="cursor"></i></div>{_clock(report)}'


def _name(report: RehearsalReport, phase: PhaseFigures) -> str:
    """Return a phase's name where there is room for it."""
    roomy = _share(report, phase.ended - phase.begun) >= _NAME_NEEDS
    return f" <em>{PHASES[phase.phase].name}</em>" if roomy else ""


def _clock(report: RehearsalReport) -> str:
    """Return the axis of time that all pictures share."""
    length = span_of(report)[1]
    step = next((one for one in _CLOCK_STEPS if length / one <= _MARKS), _CLOCK_STEPS[-1])
    marks = "".join(
        f'<span style="left:{_share(report, at):.3f}%">{at // 60}:{at % 60:02d}</span>'
        for at in range(step, int(length * 0.985), step)
    )
    return f'<div class="clock">{marks}</div>'


def _crossfade(report: RehearsalReport) -> str:
    where = report.series.where
    layers = [(f"area {name}", where[name]) for name in ("redis", "both", "kafka", "nowhere")]
    highest = max((sum(values) for values in zip(*where.values(), strict=True)), default=1)
    axis = linear(highest / report.series.step, " /s")
    scaled = [(kind, [v / report.series.step for v in values]) for kind, values in layers]
    drawn = _bands(report) + stacked(scaled, axis)
    legend = _legend(("redis", "only in Redis"), ("both", "in both"), ("kafka", "only in Kafka"))
    return _figure(
        "The crossfade",
        "acknowledged messages, by the log they stand in at the end",
        legend,
        canvas(drawn, axis[1], 150, "messages a second by the log they stand in"),
    )


def _throughput(report: RehearsalReport) -> str:
    series = report.series
    ok = [value / series.step for value in series.ok]
    failed = [value / series.step for value in series.failed]
    highest = max((a + b for a, b in zip(ok, failed, strict=True)), default=1)
    axis = linear(highest, " /s")
    drawn = _bands(report) + stacked([("area ok", ok), ("area bad", failed)], axis)
    return _figure(
        "Throughput",
        "POSTs a second: messages, repeats, receipts",
        _legend(("ok", "answered 2xx"), ("bad", "503 or no answer")),
        canvas(drawn, axis[1], 90, "POSTs a second, answered and not"),
    )


def _latency(report: RehearsalReport) -> str:
    series = report.series
    known = [value for value in series.p99_ms if value is not None]
    axis = decades(max(known, default=10.0), 0.5, _milliseconds)
    drawn = (
        _bands(report)
        + line(series.p99_ms, axis, "line p99")
        + line(series.p50_ms, axis, "line p50")
    )
    return _figure(
        "Latency",
        "of the answered ones, as a client sees it",
        _legend(("p50", "p50"), ("p99", "p99")),
        canvas(drawn, axis[1], 110, "p50 and p99 of latency in milliseconds"),
    )


def _lag(report: RehearsalReport) -> str:
    lag = report.series.lag
    known = [v for values in lag.values() for v in values if v is not None]
    axis = decades(max(max(known, default=10), 10) + 1, 1.0, _count)
    drawn = _bands(report) + "".join(
        line([None if v is None else v + 1.0 for v in values], axis, f"line {name}")
        for name, values in lag.items()
    )
    return _figure(
        "Lag",
        "records that the workers' group has not acknowledged; no line where it can't be known",
        _legend(("redis", "Redis"), ("kafka", "Kafka")),
        canvas(drawn, axis[1], 90, "records not acknowledged, by log"),
    )


def _parity(report: RehearsalReport) -> str:
    parity = report.series.parity
    known = [v for values in parity.values() for v in values if v is not None]
    axis = decades(max(max(known, default=10), 10) + 1, 1.0, _count)
    drawn = _bands(report) + "".join(
        line([None if v is None else v + 1.0 for v in parity[name]], axis, f"line {kind}")
        for name, kind in (("waiting", "waits"), ("differing", "bad"))
    )
    return _figure(
        "Parity",
        "what the service's own comparison of the two logs says, minute by minute; no line where "
        "there is one log only, or nobody can tell",
        _legend(("bad", "differ or missing"), ("waits", "not yet comparable")),
        canvas(drawn, axis[1], 90, "messages that differ, and those not yet comparable"),
    )


def _lanes(report: RehearsalReport) -> str:
    """Who ran which phase when; what was killed, suspended or stopped."""
    lanes = sorted(
        report.lanes.items(), key=lambda lane: (_ORDER.index(lane[0].partition("-")[0]), lane[0])
    )
    bars, marks, names = [], [], []
    for row, (name, spans) in enumerate(lanes):
        names.append(f'<span class="lane" style="top:{row * _LANE}px">{escape(name)}</span>')
        y, height = (row + 0.12) / len(lanes) * HIGH, 0.76 / len(lanes) * HIGH
        for span in spans:
            if span.state == "down" or span.ended is None:
                continue
            kind = span.state if span.phase is None or span.state != "up" else f"p{span.phase}"
            bars.append(
                f'<rect class="{kind}" x="{_x(report, span.begun):.2f}" y="{y:.2f}" '
                f'width="{max(0.5, _x(report, span.ended - span.begun)):.2f}" '
                f'height="{height:.2f}"/>'
            )
        marks += [
            f'<b class="x" style="left:{_share(report, fault.begun):.3f}%;'
            f'top:{row * _LANE}px" title="{_told(fault)}">{_SIGNS[fault.way]}</b>'
            for fault in report.faults
            if fault.victim == name
        ]
    height = len(lanes) * _LANE
    picture = (
        f'<div class="canvas lanes" style="height:{height}px"><svg viewBox="0 0 {WIDE:g} {HIGH:g}" '
        'preserveAspectRatio="none" role="img" aria-label="what each process ran, and faults">'
        f"{_bands(report)}{''.join(bars)}</svg>{''.join(names)}{''.join(marks)}"
        '<i class="cursor"></i></div>'
    )
    signs = "".join(
        f'<span class="key"><b class="sign">{sign}</b>{way}</span>' for way, sign in _SIGNS.items()
    )
    return _figure(
        "Who ran what",
        "each process in the colour of the phase that it runs; gaps are restarts and faults",
        signs if report.faults else "",
        picture,
    )


_ORDER = ("ingress", "worker", "redis", "kafka", "postgres")
_SIGNS = {"kill": "✕", "suspend": "‖", "restart": "↻"}


def _told(fault: FaultMark) -> str:
    lasted = "" if fault.healed is None else f", for {fault.healed - fault.begun:.1f} s"
    return f"{fault.way} {fault.victim} at {fault.begun:.1f} s{lasted}"


def _bands(report: RehearsalReport) -> str:
    """Return each phase in its colour, its rolling restart darker, and a line where it begins."""
    tints = "".join(
        f'<rect class="tint p{one.phase}" x="{_x(report, one.begun):.2f}" y="0" '
        f'width="{_x(report, one.ended - one.begun):.2f}" height="{HIGH:g}"/>'
        for one in report.phases
    )
    return tints + "".join(
        f'<rect class="rolling" x="{_x(report, one.begun):.2f}" y="0" '
        f'width="{_x(report, one.rolled - one.begun):.2f}" height="{HIGH:g}"/>'
        f'<line class="begin" x1="{_x(report, one.begun):.2f}" x2="{_x(report, one.begun):.2f}" '
        f'y1="0" y2="{HIGH:g}"/>'
        for one in report.phases[1:]
    )


def _figure(title: str, says: str, legend: str, picture: str) -> str:
    return (
        f'<figure><figcaption><h2>{title}</h2><p>{says}</p><div class="legend">{legend}</div>'
        f"</figcaption>{picture}</figure>"
    )


def _legend(*keys: tuple[str, str]) -> str:
    return "".join(f'<span class="key"><i class="{kind}"></i>{text}</span>' for kind, text in keys)


def _count(value: float) -> str:
    """Return the label of a count that is drawn as one more than it is, so that 0 has a place."""
    return "0" if value == 1 else f"{value:,.0f}"


def _milliseconds(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def span_of(report: RehearsalReport) -> tuple[float, float]:
    """Return when the pictures begin and end."""
    return 0.0, report.series.step * len(report.series.ok)


def _share(report: RehearsalReport, seconds: float) -> float:
    return seconds / span_of(report)[1] * 100


def _x(report: RehearsalReport, seconds: float) -> float:
    return seconds / span_of(report)[1] * WIDE
