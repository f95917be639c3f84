"""A limit of items a second."""

from __future__ import annotations

import asyncio
import time

from persistence.database.outage import stopped_within

__all__ = ["Rate"]

_MOST = 100


class Rate:
    """Limits letters or records to ``per_second``, from the first one on; 0: no limit."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._next = 0.0

    @property
    def at_once(self) -> int:
        """How many items to spend in one go."""
        return min(_MOST, max(1, self._per_second // 4)) if self._per_second else _MOST

    async def spend(self, number: int, stop: asyncio.Event | None = None) -> None:
        """Wait until ``number`` items may go, or ``stop`` is set."""
        if not self._per_second:
            return
        now = time.monotonic()
        pause = max(0.0, self._next - now)
        if stop is None:
            await asyncio.sleep(pause)
        else:
            await stopped_within(stop, pause)
        self._next = max(self._next, now) + number / self._per_second
