"""Gate ``homes``: each log has the partitions that the conversations' homes are computed from.

A conversation's home is a function of its hash and the count (``transport.shadow.homes``), so the
two logs may differ. But each must have the number that every process expects. Opening a log
compares it with the settings: an existing topic or database with another number refuses, with the
remedy.
"""

from __future__ import annotations

from migration_guide.gates.result import GateResult, Scene, green, red
from transport.contract import WORKER_GROUP, Topic
from transport.errors import ConfigurationError, one_line

__all__ = ["NAME", "gate"]

NAME = "homes"


async def gate(scene: Scene) -> GateResult:
    """Ask both logs."""
    counts = {}
    for name in scene.pair.names:
        try:
            log = await scene.log(name)
        except ConfigurationError as error:
            return red(NAME, name, remedy=one_line(error))
        counts[name] = len(await log.progress(Topic.MESSAGES, group=WORKER_GROUP))
        if counts[name] != log.partitions:
            return red(
                NAME,
                f"{name} has {counts[name]} partitions, and is used as if it had "
                f"{log.partitions}: readers would look for conversations in the wrong partitions",
                counts,
                remedy="correct its number in the settings (STREAM_PARTITIONS, or NAME@NUMBER)",
            )
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name} has {count}" for name, count in counts.items())
        return green(NAME, f"every conversation has one home in each log: {text}", counts)
    return green(NAME, f"both logs have {counts[scene.direction[1]]} partitions", counts)
