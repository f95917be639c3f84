"""The log lines about one dependency: one when an outage begins, one when it is over.

A probe can succeed while the work still fails: the disk is full, or a right was taken away. That is
one outage that goes on. A second line says so. It is over once nobody has waited for the dependency
in a while.
"""

from __future__ import annotations

import asyncio
import time

import structlog

__all__ = ["OutageLines"]

_log = structlog.get_logger(__name__)


class OutageLines:
    """Logs the outages of ``dependency``.

    Args:
        dependency: Its name.
        calm: Seconds without a wait after which the next wait is a new outage.
    """

    def __init__(self, dependency: str, calm: float) -> None:
        self._dependency = dependency
        self._calm = calm
        self._began = 0.0
        self._ended = 0.0
        self._ended_at = float("-inf")  # by the monotonic clock
        self._left_at = float("-inf")
        self._relapses = 0
        self._timer: asyncio.TimerHandle | None = None

    def begins(self, error: str) -> float:
        """Log that callers wait for it; return since when this outage lasts, in Unix seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if time.monotonic() - self._left_at <= self._calm:
            return self._began
        if time.monotonic() - self._ended_at > self._calm:
            self._began, self._relapses = time.time(), 0
            event = "Paused: a dependency fails; will resume when it works again"
            _log.warning(event, dependency=self._dependency, error=error)
            return self._began
        self._relapses += 1
        if self._relapses == 1:
            event = "Paused again: the dependency answers, and refuses the work; will go on trying"
            _log.warning(event, dependency=self._dependency, error=error)
        return self._began

    def ends(self) -> None:
        """Log that it works again: now, or, after a relapse, once it has worked for a while."""
        self._ended, self._ended_at = time.time(), time.monotonic()
        self._left_at = float("-inf")
        if self._relapses:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._calm, self._resumed)
        else:
            self._resumed()

    def left(self) -> None:
        """Note that the last caller left. A wait that begins soon belongs to the same outage."""
        self._left_at = time.monotonic()

    def _resumed(self) -> None:
        _log.info(
            "Resumed: the dependency works again",
            dependency=self._dependency,
            paused_seconds=round(self._ended - self._began, 3),
        )
