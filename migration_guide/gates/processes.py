"""Gate ``processes``: every process runs the phase that the step starts from, and none is missing.

A phase is safe only beside its neighbours, so the next phase is not safe beside a process that is
still a phase behind. The state of a process that fell silent is unknown: it may be cut off from
PostgreSQL and go on accepting.
"""

from __future__ import annotations

from collections.abc import Collection

from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from persistence.fleet.processes import Process

__all__ = ["NAME", "gate", "judge", "named"]

NAME = "processes"


async def gate(scene: Scene) -> GateResult:
    """Judge the processes; while a step is taken back they may be on either of its phases."""
    state = scene.state
    allowed = {state.phase, state.target} if state.under_way else {scene.origin}
    return judge(scene.processes, allowed)


def judge(processes: Collection[Process], allowed: Collection[int]) -> GateResult:
    """Return green if there are processes, all heard of just now, all on a phase ``allowed``."""
    phases = " or ".join(map(str, sorted(allowed)))
    evidence = {
        "processes": len(processes),
        "missing": [process.member for process in processes if not process.live],
        "elsewhere": {
            process.member: process.phase
            for process in processes
            if process.live and process.phase not in allowed
        },
    }
    if elsewhere := [
        process for process in processes if process.live and process.phase not in allowed
    ]:
        return red(NAME, f"not on phase {phases}: {named(elsewhere)}", evidence)
    if missing := [process for process in processes if not process.live]:
        return unknown(
            NAME,
            f"not heard of: {named(missing)}; if it is gone for good, say so with 'crossfade "
            f"migrate forget {missing[0].member} --why ...'",
            evidence,
        )
    if not processes:
        return unknown(NAME, "no process says that it runs", evidence)
    every = f"all {len(processes)} are" if len(processes) > 1 else "the only process is"
    return green(NAME, f"{every} on phase {phases}", evidence)


def named(processes: Collection[Process]) -> str:
    """Return the processes in words: who, and on which phase or for how long silent."""
    return ", ".join(
        f"{process.member} ({process.role}, "
        + (_phase(process) if process.live else f"silent for {process.silent_seconds:.0f} s")
        + ")"
        for process in processes
    )


def _phase(process: Process) -> str:
    if process.phase is not None:
        return f"phase {process.phase}"
    return f"no phase: TRANSPORT={process.transport}"
