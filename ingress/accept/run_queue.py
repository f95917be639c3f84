"""Begin so many requests in one turn of the event loop; the others wait in line, and not for long.

The event loop reads every socket that has something before it does anything else. With thousands
of them, what is under way (appends to the log, batches of workers) would wait for all their
requests, over and over, and nothing would ever end.

Where the line is long, the newest begins first, and what has waited too long is refused. So most of
those that are accepted have hardly waited, and a request that waits for its refusal sends no other:
a client is slowed down, at no cost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["RunQueue", "WaitingRequest"]

_PER_TURN = 128
_STANDING = 0.1  # seconds that the oldest waits, from which on the newest begins first
_LONGEST = 0.5  # seconds


class WaitingRequest(Protocol):
    """A request that has come as a whole."""

    since: float

    def run(self) -> None:
        """Begin it. Must not raise."""

    def shed(self, waited: float) -> None:
        """Refuse it, after so many seconds. Must not raise."""


class RunQueue:
    """The line of one process. Belongs to one event loop.

    Args:
        per_turn: Requests that begin in one turn of the loop, and those that are refused in one.
        clock: Returns seconds that never go back.
    """

    def __init__(
        self, *, per_turn: int = _PER_TURN, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.per_turn = per_turn
        self.longest = _LONGEST
        """Seconds that a request waits for its turn."""
        self._clock = clock
        self._begun = 0
        self._scheduled = False
        self._waiting: deque[WaitingRequest] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, request: WaitingRequest) -> None:
        """Begin ``request`` at once, or in its turn."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._begun < self.per_turn and not self._waiting:
            self._begun += 1
            request.run()
        else:
            request.since = self._clock()
            self._waiting.append(request)

    def _turn(self) -> None:
        """Begin the next of the line. Whatever else is ready has had its turn before."""
        waiting = self._waiting
        self._begun = 0
        if not waiting:
            self._scheduled = False
            return
        asyncio.get_running_loop().call_soon(self._turn)
        now = self._clock()
        for _ in range(self.per_turn):
            if not waiting or (waited := now - waiting[0].since) <= self.longest:
                break
            waiting.popleft().shed(waited)
        self._begun = min(self.per_turn, len(waiting))
        newest = self._begun and now - waiting[0].since > _STANDING
        for _ in range(self._begun):
            (waiting.pop() if newest else waiting.popleft()).run()
