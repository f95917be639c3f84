"""Waits that a stop ends, without a task for each wait: cheap enough for thousands a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

__all__ = ["Interruption"]

_T = TypeVar("_T")


class Interruption:
    """Ends the wait under way once ``stop`` is set. For one task; enter it before use."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._scope: asyncio.Timeout | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    async def unless_stopped(self, call: Callable[[], Awaitable[_T]]) -> _T | None:
        """Return the result of ``call``; ``None`` if the stop came first, and cancelled it."""
        if self._stop.is_set():
            return None
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                return await call()
        except TimeoutError:
            if not scope.expired():
                raise
            return None
        finally:
            self._scope = None

    async def _watch(self) -> None:
        await self._stop.wait()
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())
