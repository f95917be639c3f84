"""Poll until a condition holds, or a deadline passes. An assertion in it may fail meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

__all__ = ["eventually"]


async def eventually(
    predicate: Callable[[], Any],
    timeout: float = 30.0,  # noqa: ASYNC109 - it bounds many attempts, not one await
    *,
    every: float = 0.02,
) -> Any:
    """Call ``predicate``, plain or a coroutine function, until it returns something true.

    An ``AssertionError`` in it counts as "not yet".

    Raises:
        AssertionError: it returned nothing true within ``timeout`` seconds; its own last
            ``AssertionError``, if it raised one.
    """
    deadline = time.monotonic() + timeout
    last: Any = None
    while True:
        failure: AssertionError | None = None
        try:
            last = predicate()
            if inspect.isawaitable(last):
                last = await last
        except AssertionError as error:
            failure = error
        if failure is None and last:
            return last
        if time.monotonic() >= deadline:
            raise failure or AssertionError(f"not within {timeout} s; last saw {last!r}")
        await asyncio.sleep(every)
