"""Poll until a condition holds. An assertion in it may fail meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

__all__ = ["eventually"]

# A machine that is busy with other work is slow, but what it works at changes.
_UNCHANGED_SECONDS = 120.0


async def eventually(predicate: Callable[[], Any], *, every: float = 0.02) -> Any:
    """Call ``predicate``, plain or a coroutine function, until it returns something true.

    There is no limit on the whole: only on how long nothing new is seen. An ``AssertionError`` in
    it counts as "not yet".

    Raises:
        AssertionError: what it returned or raised stayed the same for 120 seconds; its own last
            ``AssertionError``, if it raised one.
    """
    seen: str | None = None
    changed = time.monotonic()
    while True:
        failure: AssertionError | None = None
        last: Any = None
        try:
            last = predicate()
            if inspect.isawaitable(last):
                last = await last
        except AssertionError as error:
            failure = error
        if failure is None and last:
            return last
        now, sees = time.monotonic(), repr(failure or last)
        if sees != seen:
            seen, changed = sees, now
        elif now - changed >= _UNCHANGED_SECONDS:
            raise failure or AssertionError(f"nothing new for {now - changed:.0f} s: {seen}")
        await asyncio.sleep(every)
