"""Gate ``watermark``: everything accepted before every process wrote to both logs is persisted.

A message that was accepted earlier may be in one log only, so the other log's reader would never
see it. The watermark is the mark of the last link but one of the chain (``persistence.chain``): the
end of the log that was read so far, when every process was first seen on a phase that writes both.
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
from persistence.chain.table import read as read_chain
from persistence.database.pool import using
from persistence.ownership.settled import unsettled
from transport.contract import WORKER_GROUP, Topic
from transport.progress import progress_everywhere

__all__ = ["NAME", "gate"]

NAME = "watermark"


async def gate(scene: Scene) -> GateResult:
    """Compare PostgreSQL's positions with the mark."""
    async with using(scene.pool) as connection:
        chain = await read_chain(connection)
    marks = chain.links[-2].marks if chain.both_whole else None
    if marks is None:
        return unknown(
            NAME,
            "it is not recorded that every process writes to both logs, or a process had other "
            "settings since ('crossfade migrate status' has the history)",
            remedy="'crossfade migrate watch' records it when every process is on the phase and "
            "both logs answer",
        )
    name = chain.links[-2].log
    log = await scene.log(name)
    if await log.identity() != marks.identity:
        return unknown(
            NAME,
            f"{name} is another log than the one that every process wrote to",
            remedy="go back to a phase without a synchronous shadow, and forward again",
        )
    progress = await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
    known = {part.partition for part in progress}
    marked = {partition: at for partition, at in marks.offsets.items() if partition in known}
    short = {
        str(part.partition): part.end
        for part in progress
        if part.partition in marked
        and part.end is not None
        and log.sort_key(part.end) < log.sort_key(marked[part.partition])
    }
    below = {str(number): at for number, at in (await unsettled(scene.pool, log, marked)).items()}
    evidence = {"log": name, "below": below, "since": scene.state.reached_at}
    if below:
        partition = next(iter(below))
        mark = marked[int(partition)]
        return red(
            NAME,
            f"partition {partition} of {name} is persisted through "
            f"{position_in_words(below[partition])}, not yet through {mark}, "
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
