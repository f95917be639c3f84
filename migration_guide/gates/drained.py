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

from migration_guide.gates.result import (
    GateResult,
    Scene,
    green,
    position_in_words,
    red,
    unknown,
)
from persistence.ownership.settled import unsettled
from transport.contract import WORKER_GROUP, Topic

__all__ = ["NAME", "gate"]

NAME = "drained"

_IN_HAND_SECONDS = 10.0
"""As long may readers take for the records that were there."""
_LOOK_SECONDS = 0.5


async def gate(scene: Scene) -> GateResult:
    """Compare PostgreSQL's positions in the log that the step leaves with the log's ends."""
    name = scene.before.shadow
    assert name is not None
    log = await scene.log(name)
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    ends = {part.partition: part.end for part in progress}
    until = time.monotonic() + _IN_HAND_SECONDS
    below = await unsettled(scene.pool, log, ends)
    while below and time.monotonic() < until:
        await asyncio.sleep(_LOOK_SECONDS)
        below = await unsettled(scene.pool, log, ends)
    unclear = [part.partition for part in progress if part.unavailable or part.held]
    evidence = {"log": name, "below": below, "unclear": unclear}
    if below:
        partition, through = next(iter(below.items()))
        return red(
            NAME,
            f"partition {partition} of {name} has an unsettled record after "
            f"{position_in_words(through)}: it ended at {ends[partition]} "
            f"{_IN_HAND_SECONDS:.0f} s ago",
            evidence,
        )
    if unclear:
        return unknown(NAME, f"{name} has no readable end in partitions {unclear}", evidence)
    return green(
        NAME, f"all records of {name} are settled, except those of the last seconds", evidence
    )
