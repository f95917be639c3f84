"""Measures how long one callback blocks the event loop, in CPU time of its thread.

Wall time would include other processes of a busy machine; CPU time is the cost of the code itself.
All work of a server runs in callbacks of its loop, so the longest callback is the longest time that
one request makes another wait.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Blocked", "watching"]


@dataclass
class Blocked:
    """The longest callback: its milliseconds and its name."""

    longest: float = 0.0
    by: str = ""


@contextmanager
def watching() -> Iterator[Blocked]:
    """Record the longest callback of asyncio's own loop until the block ends."""
    gc.collect()
    gc.freeze()  # without it, a collection over other tests' objects would be the longest
    blocked = Blocked()
    original = asyncio.Handle._run

    def run(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        original(handle)
        took = 1000 * (time.thread_time() - began)
        if took > blocked.longest:
            blocked.longest, blocked.by = took, repr(handle)[:200]

    asyncio.Handle._run = run
    try:
        yield blocked
    finally:
        asyncio.Handle._run = original
