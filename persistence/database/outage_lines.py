"""The lines of our log about one dependency: one where an outage begins, one where it is over.

A probe can succeed while the work goes on failing: a full disk, a right that was taken away. That
is one outage that goes on. It is said twice, and over once the dependency was not waited for in a
while.
"""

from __future__ import annotations

import asyncio
import time

import structlog

__all__ = ["OutageLines"]

_log = structlog.get_logger(__name__)


class OutageLines:
    """Tells the outages of ``dependency``.

    Args:
        dependency: Its name.
        calm: Seconds without a wait after which the next one is another outage.
    """

    def __init__(self, dependency: str, calm: float) -> None:
        self._dependency = dependency
        self._calm = calm
        self._began = 0.0
        self._ended = 0.0
        self._ended_at = float("-inf")  # by the clock that never goes back
        self._relapses = 0
        self._timer: asyncio.TimerHandle | None = None

    def begins(self, error: str) -> float:
        """Tell that it is waited for, and return since when: as Unix seconds, of this outage."""
        if self._timer is not None:
            self._timer.cancel()
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
        """Tell that it works again: now, or when it has done so for a while if it did not last."""
        self._ended, self._ended_at = time.time(), time.monotonic()
        if self._relapses:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._calm, self._resumed)
        else:
            self._resumed()

    def _resumed(self) -> None:
        _log.info(
            "Resumed: the dependency works again",
            dependency=self._dependency,
            paused_seconds=round(self._ended - self._began, 3),
        )
