"""Gate ``workers``: no worker waits for a dependency, and the log is not far behind.

If the log that is read changed while workers retry, the cause of their wait would be hidden.
"""

from __future__ import annotations

from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from persistence.database.pool import using
from persistence.ownership.fences import owners
from transport.contract import WORKER_GROUP, Topic

__all__ = ["NAME", "gate"]

NAME = "workers"

_TOO_FAR = 10_000


async def gate(scene: Scene) -> GateResult:
    """Judge the processes' reports, the owners of partitions, and the lag in the log that is read.

    The lag is the one that the log shows. If it is wrong, a step takes longer, and nothing else.
    """
    waiting = {
        process.member: [pause.dependency for pause in process.paused]
        for process in scene.processes
        if process.paused
    }
    name = scene.before.consume_from
    log = await scene.log(name)
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    lags = {str(part.partition): part.lag for part in progress}
    lost = sum(part.lost for part in progress)
    async with using(scene.pool) as connection:
        owned_by = (await owners(connection)).get(name, {})
    readers = {
        process.member
        for process in scene.processes
        if process.live and process.consume_from == name
    }
    unowned = [part for part in range(log.partitions) if owned_by.get(part) not in readers]
    total = sum(lag for lag in lags.values() if lag is not None)
    evidence = {"waiting": waiting, "lag": total, "lost": lost, "unowned": unowned}
    if waiting:
        who, what = next(iter(waiting.items()))
        return red(NAME, f"{who} waits for {', '.join(what)}", evidence)
    if unowned:
        return red(NAME, f"no live process reads partitions {unowned} of {name}", evidence)
    if None in lags.values():
        return unknown(NAME, f"{name} can't say how far its readers are", evidence)
    if total > _TOO_FAR:
        return red(
            NAME, f"{total} messages wait in {name}: let the workers catch up first", evidence
        )
    return green(NAME, f"no worker waits; not persisted yet in {name}: {total}", evidence)
