"""Wait for an answer with a deadline that a slow cancellation can't extend."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["answer"]

_Result = TypeVar("_Result")
_ending: set[asyncio.Task[Any]] = set()
"""Given up, and not over yet. The event loop itself keeps no task alive."""


async def answer(asking: Coroutine[Any, Any, _Result], *, within: float) -> _Result:
    """Await ``asking`` for at most ``within`` seconds.

    ``asyncio.timeout`` would wait for it to end: a client that is cut off while it connects to a
    broker that is there and silent takes its own time (Kafka's: 5 s where 2 were promised). A
    caller that promised an answer by then can't wait for that; the client ends by itself.

    Args:
        asking: what to wait for; cancelled if it does not come, or if the caller is.
        within: seconds.

    Raises:
        TimeoutError: there was no answer in time.
    """
    task = asyncio.ensure_future(asking)
    try:
        await asyncio.wait([task], timeout=within)
    finally:
        if not task.done():
            task.cancel()
            _ending.add(task)
            task.add_done_callback(_ended)
    if not task.done():
        raise TimeoutError
    return task.result()


def _ended(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved: it has no waiter any more
