"""A sender's moments: for workloads that wait for an answer before they go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

__all__ = ["turns"]


async def turns(
    gaps: Iterable[float], stopped: asyncio.Event, *, first: float = 0.0, catch_up: bool = True
) -> AsyncIterator[float]:
    """Yield the moments (``time.monotonic``) at which a sender is due, once each has come.

    The first is in ``first`` seconds, each other a gap later. A sender that is late goes on at
    once: with ``catch_up`` until it has sent what was due meanwhile, otherwise with the next gap
    from when it really went on.
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
