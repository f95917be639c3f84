"""Gate ``drained``: each record of the log that is given up is a row, or a dead letter.

Its records are in the other log too. But once no process writes a log, no process reads it either,
so this is the last check of them.

Traffic goes on, so the newest records are always in a reader's hand. The gate waits until the
readers are through those that were there when it began. It compares offsets and no times: a Kafka
record has the clock of another machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from transport.contract import WORKER_GROUP, Progress, Topic, Transport

__all__ = ["NAME", "gate"]

NAME = "drained"

_IN_HAND_SECONDS = 10.0
"""As long may readers take for the records that were there."""
_LOOK_SECONDS = 0.5


async def gate(scene: Scene) -> GateResult:
    """Judge the group's progress in the log that the step leaves."""
    name = scene.before.shadow
    assert name is not None
    log = await scene.log(name)
    until = time.monotonic() + _IN_HAND_SECONDS
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    ends = {part.partition: part.end for part in progress}
    while (below := _below(log, progress, ends)) and time.monotonic() < until:
        await asyncio.sleep(_LOOK_SECONDS)
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    unclear = [part.partition for part in progress if part.lag is None]
    evidence = {
        "log": name,
        "lag": sum(part.lag or 0 for part in progress),
        "below": below,
        "unclear": unclear,
    }
    if below:
        partition, floor = next(iter(below.items()))
        return red(
            NAME,
            f"partition {partition} of {name} has an unsettled record after {floor}: it ended at "
            f"{ends[partition]} {_IN_HAND_SECONDS:.0f} s ago",
            evidence,
        )
    if unclear:
        return unknown(NAME, f"{name} can't say how far partitions {unclear} are", evidence)
    return green(
        NAME, f"all records of {name} are settled, except those of the last seconds", evidence
    )


def _below(
    log: Transport, progress: Sequence[Progress], ends: Mapping[int, str | None]
) -> dict[int, str | None]:
    """Return how far the readers are in each partition in which they are not through its end."""
    key = log.sort_key
    return {
        part.partition: part.floor
        for part in progress
        if part.lag
        and (end := ends[part.partition]) is not None
        and (part.floor is None or key(part.floor) < key(end))
    }
