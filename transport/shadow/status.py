"""The status of a mirror, for readiness, the terminal, the console and the gates."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from transport.shadow.observer import BreakerState
from transport.shadow.outcomes import Drop

__all__ = ["CopyCounts", "ShadowStatus"]


class CopyCounts(msgspec.Struct):
    """The counts of one partition of the shadow since the process started.

    ``dropped_at`` is in seconds since the Unix epoch.
    """

    partition: int
    waiting: int = 0
    copied: int = 0
    dropped: dict[str, int] = {}
    dropped_at: float | None = None

    def drop(self, kind: Drop) -> None:
        """Count one copy that will not be sent."""
        self.dropped[kind.value] = self.dropped.get(kind.value, 0) + 1
        self.dropped_at = time.time()


class ShadowStatus(msgspec.Struct, frozen=True):
    """The status of the shadow in one process.

    ``error`` is the last error in one line; it is empty after a success. ``since`` is when the
    counts begin. ``unwritten`` is the number of drops that the gap ledger has not written yet;
    ``None`` without a ledger. Times are in seconds since the Unix epoch, ages in seconds.
    """

    name: str
    mode: str
    breaker: BreakerState
    waiting: int
    waiting_bytes: int
    oldest_age: float
    error: str
    since: float
    partitions: list[CopyCounts]
    unwritten: int | None = None

    @property
    def dropped(self) -> int:
        """The number of dropped copies, of all partitions and kinds."""
        return sum(sum(counts.dropped.values()) for counts in self.partitions)

    def dropped_since(self, moment: float) -> bool:
        """Return whether any copy was dropped at or after ``moment``."""
        return any(
            counts.dropped_at is not None and counts.dropped_at >= moment
            for counts in self.partitions
        )

    def summary(self) -> dict[str, Any]:
        """Return the status as JSON-ready data, with totals.

        Partitions without waiting or dropped copies are left out. ``dropped_at`` is when the last
        copy was dropped, ``None`` if none was.
        """
        summary: dict[str, Any] = msgspec.to_builtins(self)
        summary["dropped"] = self.dropped
        moments = [counts.dropped_at for counts in self.partitions if counts.dropped_at is not None]
        summary["dropped_at"] = max(moments, default=None)
        summary["partitions"] = [
            part
            for part, counts in zip(summary["partitions"], self.partitions, strict=True)
            if counts.waiting or counts.dropped
        ]
        return summary
