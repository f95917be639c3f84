"""Backoff: growing pauses between failed attempts."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Pauses that double from ``first`` seconds up to ``longest``.

    Each pause is drawn from the upper half of its range, so that pauses grow, and processes that
    lost the same server don't come back at the same time.

    Args:
        first: The upper bound of the first pause, in seconds.
        longest: The longest pause, in seconds; it also bounds the first one.
        calm: Seconds after the end of a pause. A later failure begins with the first pause again.
        clock: Returns seconds that never go back.
        uniform: Draws a number between two others.
    """

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        calm: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first
        self._longest = longest
        self.calm = calm
        self._clock = clock
        self._uniform = uniform
        self._upper = min(first, longest)
        self._ends = math.inf

    def reset(self) -> None:
        """Begin with the first pause again: the attempt succeeded."""
        self._upper = min(self._first, self._longest)

    def next(self) -> float:
        """Return the seconds to wait after another failure."""
        now = self._clock()
        if now - self._ends > self.calm:
            self.reset()
        pause = self._uniform(self._upper / 2, self._upper)
        self._upper = min(self._upper * 2, self._longest)
        self._ends = now + pause
        return pause
