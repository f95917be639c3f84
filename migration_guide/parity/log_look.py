"""A snapshot of both logs: where their partitions end, and how many records they have lost.

One request to a log covers all its partitions, while a read covers one. Reading each partition to
find nothing would cost an idle process more than all its other work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from migration_guide.parity.cells import CellGroup
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.progress import progress_everywhere

__all__ = ["LogLook", "look_at"]


class _PartitionEnd(NamedTuple):
    """Where a partition ends: its last offset, and how many records ever came to it."""

    offset: str | None
    appended: int


class LogLook(NamedTuple):
    """One look.

    ``moment``: seconds since the epoch, just before the look. ``ends``: by log and partition;
    ``None`` where a log can't tell. ``lost``: records lost, the sum over both logs.
    """

    moment: float
    ends: tuple[Sequence[_PartitionEnd | None], ...]
    lost: int

    def is_still(self, before: LogLook, group: CellGroup) -> bool:
        """Return whether nothing came to the partitions of a group since another look."""
        return all(
            (end := self.ends[side][partition]) is not None and end == before.ends[side][partition]
            for side in (0, 1)
            for partition in group[side]
        )


async def look_at(logs: Sequence[Transport]) -> LogLook:
    """Look at the primary and the shadow.

    Raises:
        TransportUnavailable: a log can't say.
    """
    moment = time.time()
    both = [await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP) for log in logs]
    return LogLook(
        moment,
        tuple([_end(progress) for progress in partitions] for partitions in both),
        sum(progress.lost for partitions in both for progress in partitions),
    )


def _end(progress: Progress) -> _PartitionEnd | None:
    return None if progress.appended is None else _PartitionEnd(progress.end, progress.appended)
