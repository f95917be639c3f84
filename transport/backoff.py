"""Growing pauses between attempts at something that fails."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Pauses that double from ``first`` seconds up to ``longest``.

    Each is drawn from the upper half of its range: processes that lost the same server must not
    come back in step, and pauses must still grow.

    Args:
        first: Seconds. The upper bound of the first pause.
        longest: Seconds. No pause is longer, not even the first.
        calm: Seconds after the end of a pause; a failure later than that is new trouble, and its
            pause is a first one again.
        clock: Returns seconds that never go back.
        uniform: Draws a number between two.
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
