"""Gate ``durability``: an acknowledgement of the new log survives as much as one of the old.

The servers are asked, not our settings. The usual surprise is a change from a Redis that flushes
each append to a lone Kafka node that does not: Kafka relies on replicas on several machines.
"""

from __future__ import annotations

import msgspec

from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from transport.durability import Durability

__all__ = ["NAME", "gate", "judge"]

NAME = "durability"

_REMEDY = (
    "change that server (docs/durability.md), or pass the gate with a reason (--overrule, "
    "--accept-unknown)"
)
_MEANS = {
    "crash": "a killed server process",
    "power": "a power cut",
    "disk": "the loss of a machine with its disk",
}


async def gate(scene: Scene) -> GateResult:
    """Compare the two logs of the step."""
    source, target = [await scene.log(name) for name in scene.direction]
    return judge(source.name, await source.durability(), target.name, await target.durability())


def judge(source: str, before: Durability, target: str, after: Durability) -> GateResult:
    """Return red if ``after`` survives less than ``before``.

    Several machines that confirm an append make up for a missing flush: a power cut of one machine
    leaves the copies of the others.
    """
    evidence = {source: msgspec.to_builtins(before), target: msgspec.to_builtins(after)}
    if None in (before.crash, before.power, before.disk):
        return unknown(
            NAME, f"{source} does not tell: {_figures(before)}", evidence, remedy=_REMEDY
        )
    if None in (after.crash, after.power, after.disk):
        return unknown(NAME, f"{target} does not tell: {_figures(after)}", evidence, remedy=_REMEDY)
    but = f"; but {after.cut_off}" if after.cut_off else ""
    weaker = [
        words
        for name, words in _MEANS.items()
        if getattr(before, name) and not getattr(after, name) and not (after.disk and after.crash)
    ]
    if weaker:
        return red(
            NAME,
            f"messages that {target} acknowledged do not survive {' nor '.join(weaker)}; those of "
            f"{source} do ({_figures(after)}){but}",
            evidence,
            remedy=_REMEDY,
        )
    return green(NAME, f"{target} loses nothing that {source} would keep{but}", evidence)


def _figures(durability: Durability) -> str:
    return ", ".join(f"{name}={value}" for name, value in durability.figures.items())
