"""A restartable timer, for the minute in which log lines are added up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["RestartableTimer"]


class RestartableTimer:
    """A timer that calls ``over`` at its end. It may be begun again, also while it runs.

    Args:
        over: called when the time is over; not for a run that was begun again.
        seconds: the time of one run.
    """

    def __init__(self, over: Callable[[], None], seconds: float) -> None:
        self._over = over
        self._seconds = seconds
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._timer is not None

    @property
    def elapsed(self) -> float:
        """Seconds since it began, rounded for a log line."""
        return round(asyncio.get_running_loop().time() - self._began, 1)

    def begin(self) -> None:
        """Begin the time anew."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._began = loop.time()
        self._timer = loop.call_later(self._seconds, self._end)

    def _end(self) -> None:
        self._timer = None
        self._over()
