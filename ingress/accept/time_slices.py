"""Long work in short slices, so that other tasks of the event loop do not wait for all of it.

The event loop runs one task at a time. So long work for one client is done in slices, and other
tasks run between two slices. Several pieces of long work take turns too: ten of them delay other
tasks no more than one does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["TimeSlices"]

_SLICE = 0.002
"""Seconds of work between two turns of the event loop."""
_Step = TypeVar("_Step")


class TimeSlices:
    """Runs long work in slices. All requests that share an object take turns."""

    def __init__(self) -> None:
        self._slice = asyncio.Lock()

    async def run(self, steps: Iterable[_Step | None]) -> list[_Step]:
        """Run ``steps`` in slices, and return their results.

        A step without a result yields ``None``. The first slice runs at once; most work needs no
        more. An exception of a step ends the work and is raised.
        """
        taken: list[_Step] = []
        iterator = iter(steps)
        if _slice(iterator, taken):
            return taken
        while True:
            await asyncio.sleep(0)
            async with self._slice:  # first come, first served: one slice each
                if _slice(iterator, taken):
                    return taken
                await asyncio.sleep(0)


def _slice(iterator: Iterable[_Step | None], taken: list[_Step]) -> bool:
    """Run steps for the time of a slice; return whether all steps are done."""
    end = time.perf_counter() + _SLICE
    for step in iterator:
        if step is not None:
            taken.append(step)
        if time.perf_counter() >= end:
            return False
    return True
