"""Gate ``drained``: each record of the log that is given up is a row, or a dead letter.

Its records are in the other log too. But once no process writes a log, no process reads it either,
so this is the last check of them.
"""

from __future__ import annotations

from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from transport.contract import WORKER_GROUP, Topic

__all__ = ["NAME", "gate"]

NAME = "drained"

# Traffic goes on: the readers still hold records that were appended a moment ago.
_IN_HAND_SECONDS = 10.0


async def gate(scene: Scene) -> GateResult:
    """Judge the group's progress in the log that the step leaves."""
    name = scene.before.shadow
    assert name is not None
    log = await scene.log(name)
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    old = {
        str(entry.partition): round(entry.oldest_age, 1)
        for entry in progress
        if entry.oldest_age is not None and entry.oldest_age > _IN_HAND_SECONDS
    }
    unclear = [
        entry.partition for entry in progress if entry.lag is None or entry.oldest_age is None
    ]
    evidence = {
        "log": name,
        "lag": sum(entry.lag or 0 for entry in progress),
        "oldest_seconds": old,
        "unclear": unclear,
    }
    if old:
        partition, age = next(iter(old.items()))
        return red(
            NAME,
            f"partition {partition} of {name} has an unsettled record that is {age:.0f} s old",
            evidence,
        )
    if unclear:
        return unknown(NAME, f"{name} can't say how far partitions {unclear} are", evidence)
    return green(
        NAME, f"all records of {name} are settled, except those of the last seconds", evidence
    )
