"""Waits until a condition holds, or fails after a time limit."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

__all__ = ["StuckError", "wait_until"]


class StuckError(Exception):
    """A condition did not hold in time. The message says which condition."""


async def wait_until(
    condition: Callable[[], bool | Awaitable[bool]],
    *,
    within: float,
    otherwise: Callable[[], str],
    every: float = 0.02,
) -> None:
    """Call ``condition``, plain or a coroutine function, until it returns true.

    Args:
        condition: The condition; called at least once, even if no time is left.
        within: Seconds until it must hold.
        otherwise: Returns the error's message; called after the last try.
        every: Seconds between two tries.

    Raises:
        StuckError: The condition did not hold in time.
    """
    deadline = time.monotonic() + within
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        if time.monotonic() >= deadline:
            raise StuckError(f"{otherwise()} (waited {within:.0f} s)")
        await asyncio.sleep(every)
