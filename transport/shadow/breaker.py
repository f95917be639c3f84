"""A circuit breaker, which keeps calls from a shadow that does not work."""

from __future__ import annotations

import time
from collections.abc import Callable

from transport.backoff import Backoff
from transport.shadow.observer import BreakerState

__all__ = ["Breaker"]

_FAILURES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


class Breaker:
    """A circuit breaker. Closed: calls are made. Open: none is made. Half open: one is on trial.

    It opens after three calls in a row that appended nothing, first for half a second, and for
    twice as long each time that the trial fails, up to ten seconds.
    """

    def __init__(
        self, tell: Callable[[BreakerState], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.state: BreakerState = "closed"
        self._tell = tell
        self._clock = clock
        self._failures = 0
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._until = 0.0

    def wait(self) -> float:
        """Return the seconds until a call may be made; 0 if it may be made now."""
        if self.state == "closed":
            return 0.0
        if self.state == "half_open":
            return _FIRST_PAUSE  # the trial is under way
        return max(0.0, self._until - self._clock())

    def begin(self) -> bool:
        """Return whether to make a call now. If so, ``succeeded`` or ``failed`` follows."""
        if self.wait() > 0.0:
            return False
        if self.state == "open":
            self._change("half_open")
        return True

    def succeeded(self) -> None:
        """Note a call that the shadow answered."""
        self._failures = 0
        self._backoff.reset()
        if self.state != "closed":
            self._change("closed")

    def failed(self) -> None:
        """Note a call in which the shadow appended nothing."""
        self._failures += 1
        if self.state == "open" or (self.state == "closed" and self._failures < _FAILURES):
            return
        self._until = self._clock() + self._backoff.next()
        self._change("open")

    def _change(self, state: BreakerState) -> None:
        self.state = state
        self._tell(state)
