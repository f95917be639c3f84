"""An event loop with exact timers: epoll rounds up to whole milliseconds, so up to 1 ms late."""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_exactly"]

T = TypeVar("T")


def run_exactly(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop with exact timers."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(main)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(_Exact() if sys.platform == "linux" else None)


if sys.platform == "linux":

    class _Exact(selectors.EpollSelector):
        """Waits with ``select`` for epoll's own descriptor, then asks epoll for the events."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout > 0:
                select.select([self.fileno()], [], [], timeout)
            return super().select(0)
