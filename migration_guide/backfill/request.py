"""What to backfill, and how far a run is."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec

from migration_guide.parity.comparison import ParityLimits

__all__ = ["BackfillStatus", "Rate", "Request"]


class Request(msgspec.Struct, frozen=True):
    """What to backfill. ``since``: seconds since the epoch; ``None`` for all that is held.

    ``rate``: records a second at most, 0 for no limit. ``everything``: also what the target has
    trimmed, or never had because it is younger, although the source's workers are done with it.
    ``by``: who asked. ``limits.settle``: how young a record is the live shadow's own business.
    """

    from_rows: bool = False
    since: float | None = None
    rate: int = 1000
    everything: bool = False
    by: str = ""
    limits: ParityLimits = ParityLimits(settle=15.0)


class BackfillStatus(msgspec.Struct):
    """How far a run is; read it while it runs. Counts are records.

    ``present``: the target remembered them. ``refused``: no envelope can carry them, so they stay
    missing. ``uncopied``: older than what the target holds, and left alone.
    """

    stage: Literal["comparing", "appending", "waiting", "done"] = "comparing"
    examined: int = 0
    missing: int = 0
    appended: int = 0
    present: int = 0
    refused: int = 0
    uncopied: int = 0
    gaps_repaired: int = 0
    error: str | None = None


class Rate:
    """At most so many records a second, from the first one on; 0: as many as there are."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._next = 0.0

    @property
    def at_once(self) -> int:
        """How many to spend in one go."""
        return min(100, max(1, self._per_second // 4)) if self._per_second else 100

    async def spend(self, records: int) -> None:
        """Return when so many may go."""
        if not self._per_second:
            return
        now = time.monotonic()
        await asyncio.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + records / self._per_second
