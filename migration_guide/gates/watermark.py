"""Gate ``watermark``: everything accepted before every process wrote to both logs is persisted.

A message that was accepted earlier may be in one log only, so the other log's reader would never
see it. The watermark is where both logs ended when every process was first seen on a phase that
writes to both.
"""

from __future__ import annotations

from migration_guide.gates.losses import AFTER_A_LOSS, losses_in_words, lost_of
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
from transport.progress import progress_everywhere

__all__ = ["NAME", "gate"]

NAME = "watermark"


async def gate(scene: Scene) -> GateResult:
    """Compare PostgreSQL's positions in the log that is read with the log's ends at that time."""
    name = scene.before.consume_from
    marks = (scene.state.watermark or {}).get(name)
    if marks is None:
        return unknown(
            NAME,
            f"no watermark of {name} is recorded, or it was made void by a process with other "
            "settings ('crossfade migrate status' has the history)",
            remedy="'crossfade migrate watch' records one when every process is on the phase and "
            "both logs answer",
        )
    log = await scene.log(name)
    progress = await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
    marked: dict[int, str] = {}
    short: dict[str, str] = {}
    for part in progress:
        mark = marks.get(str(part.partition))
        if mark is None:
            continue  # it was empty then
        marked[part.partition] = mark
        if part.end is not None and log.sort_key(part.end) < log.sort_key(mark):
            short[str(part.partition)] = part.end
    below = {str(number): at for number, at in (await unsettled(scene.pool, log, marked)).items()}
    evidence = {"log": name, "below": below, "since": scene.state.reached_at}
    if below:
        partition = next(iter(below))
        return red(
            NAME,
            f"partition {partition} of {name} is persisted through "
            f"{position_in_words(below[partition])}, not yet through {marks[partition]}, "
            "where it ended when every process wrote to both logs",
            evidence,
        )
    if short:
        # Nothing waits, but lost records of the log may have waited.
        return unknown(
            NAME,
            f"{name} ends before where it ended when every process wrote to both logs (partitions "
            f"{', '.join(short)}), so it lost its tail",
            {**evidence, "ends": short},
            remedy="see that 'crossfade audit' is clean, and accept it with a reason",
        )
    if lost := lost_of((log, progress)):
        return unknown(
            NAME,
            f"{losses_in_words(lost)}; records before the watermark may be gone with them, and "
            "other records may have their offsets by now",
            {**evidence, "lost": lost},
            remedy=AFTER_A_LOSS,
        )
    return green(NAME, "everything accepted before both logs were written is persisted", evidence)
