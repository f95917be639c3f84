"""Gate ``shadow``: in every process the copies keep up: none waits, and the breaker is closed.

A waiting copy is only in the memory of one process; the log does not have it yet. In async mode
every copy waits as long as its append takes, so under load some copies always wait: there, only
copies that wait longer are a queue. In sync mode a waiting copy is a repair, whatever its age.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migration_guide.gates.result import GateResult, Scene, green, red, unknown

__all__ = ["NAME", "gate"]

NAME = "shadow"

_ON_ITS_WAY = 2.0  # seconds


async def gate(scene: Scene) -> GateResult:
    """Judge the shadow as each process that publishes reports it."""
    shadows = {process.member: process.shadow for process in scene.processes}
    silent = [member for member, shadow in shadows.items() if shadow is None]
    reported = {member: shadow for member, shadow in shadows.items() if shadow is not None}
    waiting = {member: shadow["waiting"] for member, shadow in reported.items() if _behind(shadow)}
    broken = {
        member: shadow["error"] or shadow["breaker"]
        for member, shadow in reported.items()
        if shadow["breaker"] != "closed"
    }
    evidence = {"waiting": waiting, "broken": broken, "silent": silent}
    if broken:
        member, error = next(iter(broken.items()))
        return red(NAME, f"{member} can't write to the shadow: {error}", evidence)
    if waiting:
        member, count = next(iter(waiting.items()))
        copies = "1 copy waits" if count == 1 else f"{count} copies wait"
        return red(NAME, f"{copies} in {member}", evidence)
    if silent or not reported:
        who = ", ".join(silent) or "anybody"
        return unknown(NAME, f"no report on the shadow from {who}", evidence)
    where = f"any of {len(reported)} processes" if len(reported) > 1 else "the only process"
    return green(NAME, f"no copy waits for more than its append in {where}", evidence)


def _behind(shadow: Mapping[str, Any]) -> bool:
    young = shadow["mode"] == "async" and shadow["oldest_age"] < _ON_ITS_WAY
    return bool(shadow["waiting"]) and not young
