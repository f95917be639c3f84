"""The times at which a sender is due, for workloads that wait for an answer before they go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

__all__ = ["turns"]


async def turns(
    gaps: Iterable[float], stopped: asyncio.Event, *, first: float = 0.0, catch_up: bool = True
) -> AsyncIterator[float]:
    """Wait for each time at which a sender is due, and yield it (``time.monotonic``).

    Args:
        gaps: Seconds from one due time to the next.
        stopped: Ends the iteration when set.
        first: Seconds until the first due time.
        catch_up: Whether a late sender sends all requests that were due meanwhile, at once. If not,
            the next gap counts from when it went on.
    """
    due = time.monotonic() + first
    for gap in gaps:
        if await _set_within(stopped, due - time.monotonic()):
            return
        began = time.monotonic()
        yield due
        due = (due if catch_up else began) + gap


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
    return event.is_set()
