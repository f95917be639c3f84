"""How long one callback holds the event loop, in processor time of its thread.

Wall time would count what other processes of a busy machine take; processor time is what the code
itself costs. Everything that a server does runs in callbacks of its loop, so the longest of them is
the longest that any other request waits for this one.
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
    """The longest callback: milliseconds, and its name."""

    longest: float = 0.0
    by: str = ""


@contextmanager
def watching() -> Iterator[Blocked]:
    """Note the longest callback of asyncio's own loop while the block runs."""
    gc.collect()
    gc.freeze()  # or looking through what other tests left would be the longest
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
