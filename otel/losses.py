"""Records that left a log unread, and when this process saw it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from transport.contract import Progress

__all__ = ["Loss", "Losses"]


class Loss(msgspec.Struct, frozen=True):
    """``lost`` records of one log, ever; the figure rose ``seconds`` ago as this process saw it."""

    transport: str
    lost: int
    seconds: float


class Losses:
    """Remembers the highest loss that each log was seen to have, and when that last rose.

    ``clock`` returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[int, float]] = {}

    def note(self, transport: str, progress: Sequence[Progress]) -> None:
        """Take in what a log says of all its partitions."""
        lost = sum(one.lost for one in progress)
        if lost > self._known.get(transport, (0, 0.0))[0]:
            self._known[transport] = lost, self._clock()

    def all(self) -> list[Loss]:
        """Return each log that lost something, in the order of their names."""
        now = self._clock()
        return [Loss(name, lost, now - at) for name, (lost, at) in sorted(self._known.items())]
