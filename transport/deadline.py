"""A deadline for an answer, which a slow cancellation can't extend."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["answer"]

_Result = TypeVar("_Result")
_ending: set[asyncio.Task[Any]] = set()
"""Tasks that were given up and have not ended. (The event loop itself keeps no task alive.)"""


async def answer(asking: Coroutine[Any, Any, _Result], *, within: float) -> _Result:
    """Await ``asking`` for at most ``within`` seconds.

    ``asyncio.timeout`` would also wait until the cancelled coroutine has ended. A client that is
    cancelled while it connects to a silent broker takes its time (Kafka's client 5 s, where 2 were
    promised). Here the caller gets its answer in time, and the client ends by itself.

    Args:
        asking: the coroutine; cancelled at the deadline, or with the caller.
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
        task.exception()  # retrieve it, so that asyncio does not log it
