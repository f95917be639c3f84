"""Find partitions that lose their fence repeatedly: owned, but not persisted here.

A partition that moves to another process loses its fence once. A second loss soon after the first
means that the log gives the partition to this process, and PostgreSQL keeps it for another.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from persistence.database.outage import Paused
from transport.clock import timestamp

__all__ = ["FenceLosses"]

_SOON_SECONDS = 10.0
"""After a loss the claim is given back, taken anew and tried within a few seconds."""


class _LossCount(NamedTuple):
    times: int
    began: float
    last: float
    error: str


class FenceLosses:
    """The lost fences of one process, by partition. Ages are of the monotonic clock."""

    def __init__(self) -> None:
        self._losses: dict[int, _LossCount] = {}

    def note(self, partition: int, error: Exception) -> None:
        """Record that the fence of ``partition`` was lost."""
        now = time.monotonic()
        before = self._losses.get(partition)
        if before is None or now - before.last > _SOON_SECONDS:
            before = _LossCount(0, now, now, "")
        self._losses[partition] = _LossCount(before.times + 1, before.began, now, str(error))

    def paused(self) -> list[Paused]:
        """Return the partitions whose fence was lost repeatedly, the last time a moment ago."""
        now = time.monotonic()
        return [
            Paused(f"the fence of partition {partition}", _since(now, loss.began), loss.error)
            for partition, loss in sorted(self._losses.items())
            if loss.times > 1 and now - loss.last <= _SOON_SECONDS
        ]


def _since(now: float, began: float) -> str:
    return timestamp(time.time() - (now - began))
