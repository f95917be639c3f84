"""Gate ``partitions``: both logs have the same partitions, so that a conversation keeps its one.

Opening a log compares it with the settings: an existing topic or database with another
number of partitions refuses, with the remedy.
"""

from __future__ import annotations

from migration_guide.gates.result import GateResult, Scene, green, red
from transport.contract import WORKER_GROUP, Topic
from transport.errors import ConfigurationError

__all__ = ["NAME", "gate"]

NAME = "partitions"


async def gate(scene: Scene) -> GateResult:
    """Ask both logs."""
    counts = {}
    for name in scene.pair:
        try:
            log = await scene.log(name)
        except ConfigurationError as error:
            return red(NAME, f"{name}: {error}")
        counts[name] = len(await log.progress(Topic.MESSAGES, group=WORKER_GROUP))
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name} has {count}" for name, count in counts.items())
        return red(NAME, f"the logs differ: {text}", counts)
    return green(NAME, f"both logs have {counts[scene.pair.new]}", counts)
