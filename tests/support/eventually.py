"""Wait for a condition, with a deadline; never for a while."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["eventually"]

T = TypeVar("T")


async def eventually(
    predicate: Callable[[], T | Awaitable[T]],
    timeout: float = 10.0,  # noqa: ASYNC109 - it bounds many attempts, not one await
    *,
    every: float = 0.02,
) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    An ``AssertionError`` in it counts as "not yet"; the last one is raised at the deadline.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        failure: AssertionError | None = None
        try:
            last = predicate()
            if inspect.isawaitable(last):
                last = await last
        except AssertionError as error:
            failure = error
        if failure is None and last:
            return last  # type: ignore[return-value]
        if time.monotonic() >= deadline:
            raise failure or AssertionError(f"not within {timeout} s; last saw {last!r}")
        await asyncio.sleep(every)
