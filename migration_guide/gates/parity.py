"""Gate ``parity``: over a window, every message of one log is in the other, equal and in order.

A window in which nothing, or only a tenth, could be compared proves no parity.
"""

from __future__ import annotations

import time
from datetime import datetime

import msgspec

from migration_guide.gates.clocks import ahead
from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from migration_guide.mirrored import MIRRORED
from migration_guide.parity.check import ParityCheck, check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import DIFFERENCES, Verdict

__all__ = ["NAME", "gate"]

NAME = "parity"

_COVERAGE = 0.95
_CLOCKS_MAY_DIFFER = 5.0
_WITHIN_SECONDS = 45.0
"""Less than the time limit of a gate: the messages compared until then are reported."""


async def gate(scene: Scene) -> GateResult:
    """Compare both logs from the window's beginning, or from when the phase was reached."""
    limits = ParityLimits(settle=scene.settings.transport_shadow_settle_ms / 1000)
    name, shadow = scene.before.transport, scene.before.shadow
    assert shadow is not None
    until = time.time() - limits.settle
    reached = datetime.fromisoformat(scene.state.reached_at).timestamp()
    since = max(reached, until - scene.window)
    seconds = until - since
    if seconds <= 0:
        return unknown(NAME, "the phase was reached a moment ago: nothing can be compared yet")
    logs = await scene.log(name), await scene.log(shadow)
    for log in logs:
        if seconds_ahead := await ahead(log, by=max(limits.settle, _CLOCKS_MAY_DIFFER)):
            return unknown(
                NAME,
                f"the newest messages of {log.name} are {seconds_ahead:.0f} s in the future: its "
                "clock is ahead of this machine's, so nobody knows which are of the window",
                remedy="set the clocks right (NTP), and wait until these times are past",
            )
    report = await check(
        *logs,
        since=since,
        until=until,
        mirrored=reached if scene.origin in MIRRORED else None,
        limits=limits,
        within=_WITHIN_SECONDS,
    )
    return _verdict(report, seconds)


def _verdict(report: ParityCheck, seconds: float) -> GateResult:
    totals = report.totals
    evidence: dict[str, object] = {
        "counts": {result.value: count for result, count in totals.counts.items()},
        "coverage": totals.coverage,
        "seconds": round(seconds, 1),
        "samples": msgspec.to_builtins(report.samples[:5]),
    }
    if totals.verdict is Verdict.DIFFERS:
        found = ", ".join(
            f"{totals.of(result)} {result.value}" for result in DIFFERENCES if totals.of(result)
        )
        return red(NAME, f"over {seconds:.0f} s the logs differ: {found}", evidence)
    if report.unfinished:
        evidence["unfinished"] = report.unfinished
        return unknown(NAME, _unfinished(report, seconds), evidence)
    if totals.verdict is Verdict.NOTHING:
        return unknown(
            NAME,
            f"nothing was sent in the last {seconds:.0f} s that could be compared: 100 % of "
            "nothing is not parity",
            evidence,
        )
    coverage = totals.coverage or 0.0
    if coverage < _COVERAGE:
        return unknown(
            NAME,
            f"only {coverage:.0%} of the last {seconds:.0f} s could be compared: give a shorter "
            "--window, or keep records longer (STREAM_RETENTION_SECONDS)",
            evidence,
        )
    return green(
        NAME,
        f"100 % of {totals.compared} messages of {seconds:.0f} s, coverage {coverage * 100:.0f} %",
        evidence,
    )


def _unfinished(report: ParityCheck, seconds: float) -> str:
    compared = report.totals.compared
    done = len(report.partitions) - len(report.unfinished)
    return (
        f"{compared} messages were compared in {_WITHIN_SECONDS:.0f} s and are alike, {done} of "
        f"{len(report.partitions)} partitions to their end; there is more in the last "
        f"{seconds:.0f} s. Give a shorter --window, or compare all of it with 'crossfade migrate "
        "parity'"
    )
