"""Run long work in short steps, so that no other task waits for the whole of it.

The event loop serves one thing at a time. So long work for one client is done in slices, and other
tasks have their turn between two of them. Long works take turns too: ten of them delay other tasks
no more than one does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["Turns"]

_SLICE = 0.002
"""Seconds of work between two turns of the event loop."""
_Step = TypeVar("_Step")


class Turns:
    """Takes the steps of long work; of one process, for all its requests."""

    def __init__(self) -> None:
        self._slice = asyncio.Lock()

    async def take(self, steps: Iterable[_Step | None]) -> list[_Step]:
        """Collect the results of ``steps``; ``None`` is none, and lets others have a turn.

        The first slice begins at once; most work needs no other. What a step raises is raised.
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
    """Take steps for the time of a slice; tell whether that was all of them."""
    end = time.perf_counter() + _SLICE
    for step in iterator:
        if step is not None:
            taken.append(step)
        if time.perf_counter() >= end:
            return False
    return True
