"""Gate ``dropped``: since every process is on the phase, no dropped copy is still missing.

The gap ledger has the messages that the shadow was not given. Only a backfill closes its entries.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from migration_guide.gates.result import GateResult, Scene, green, red
from persistence.database.pool import using
from persistence.fleet.missing_copies import missing_copies

__all__ = ["NAME", "gate"]

NAME = "dropped"

# A process may not report drops that are not in the ledger yet. Then those of the last minute may
# be missing there.
_UNWRITTEN_SECONDS = 60.0


async def gate(scene: Scene) -> GateResult:
    """Check the ledger, and the reports of the processes."""
    since = datetime.fromisoformat(scene.state.reached_at)
    async with using(scene.pool) as connection:
        missing = await missing_copies(connection, scene.before, since=scene.state.reached_at)
    recent = max(since.timestamp(), time.time() - _UNWRITTEN_SECONDS)
    dropping = [
        process.member
        for process in scene.processes
        if process.shadow and _behind_its_word(process.shadow, recent)
    ]
    evidence = {
        "records": missing.records,
        "partitions": missing.partitions,
        "dropping": dropping,
        "since": scene.state.reached_at,
    }
    if missing.records:
        return red(
            NAME,
            f"{scene.before.shadow} was not given {missing.records} messages (partitions "
            f"{missing.partitions})",
            evidence,
            remedy="'crossfade migrate backfill' appends them",
        )
    if dropping:
        return red(
            NAME,
            f"{', '.join(dropping)} dropped copies a moment ago, and the ledger may not have them",
            evidence,
        )
    return green(NAME, "no copy is missing since the phase was reached", evidence)


def _behind_its_word(shadow: Mapping[str, Any], recent: float) -> bool:
    """Return whether the ledger may still lack messages that this process dropped."""
    unwritten: int | None = shadow.get("unwritten")
    if unwritten is not None:
        return unwritten > 0
    return (shadow.get("dropped_at") or 0.0) > recent
