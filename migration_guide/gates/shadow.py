"""Gate ``shadow``: in every process the copies keep up: none waits, and the breaker is closed.

A copy that waits is in the memory of one process only: to go on before it is written would be to
trust a log that does not have it yet.
"""

from __future__ import annotations

from migration_guide.gates.result import Result, Scene, green, red, unknown

__all__ = ["NAME", "gate"]

NAME = "shadow"


async def gate(scene: Scene) -> Result:
    """Judge what every process that publishes says of its shadow."""
    told = {one.member: one.shadow for one in scene.processes}
    silent = [member for member, shadow in told.items() if shadow is None]
    known = {member: shadow for member, shadow in told.items() if shadow is not None}
    waiting = {member: shadow["waiting"] for member, shadow in known.items() if shadow["waiting"]}
    broken = {
        member: shadow["error"] or shadow["breaker"]
        for member, shadow in known.items()
        if shadow["breaker"] != "closed"
    }
    evidence = {"waiting": waiting, "broken": broken, "silent": silent}
    if broken:
        member, error = next(iter(broken.items()))
        return red(NAME, f"{member} can't write to the shadow: {error}", evidence)
    if waiting:
        member, count = next(iter(waiting.items()))
        return red(NAME, f"{count} copies wait in {member}", evidence)
    if silent or not known:
        who = ", ".join(silent) or "anybody"
        return unknown(NAME, f"no word of the shadow from {who}", evidence)
    return green(NAME, f"no copy waits in any of {len(known)} processes", evidence)
