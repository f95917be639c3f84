"""When a claim rests from being handed records: where other processes append to its partition, too.

To change between the two ways costs more than to read. So a claim that reads again soon after it
could be handed records rests, longer each time.
"""

from __future__ import annotations

__all__ = ["Rests"]

_INTERRUPTED_SECONDS = 0.5
_REST_SECONDS = 0.05
_LONGEST_REST_SECONDS = 2.0


class Rests:
    """The rests of one claim. ``now`` is the event loop's time, in seconds."""

    def __init__(self) -> None:
        self.is_resting = False
        self._has_rested = False  # and nothing was read since
        self._seconds = 0.0
        self._resumed = -_INTERRUPTED_SECONDS  # when the last rest ended, or ends

    def begin(self, now: float) -> bool:
        """Note that records were read; return whether a rest begins with that."""
        if self.is_resting:
            return False
        if self._has_rested:  # this is what came meanwhile
            self._has_rested = False
            return False
        if now - self._resumed > _INTERRUPTED_SECONDS:
            self._seconds = 0.0
        else:
            self._seconds = min(2 * self._seconds + _REST_SECONDS, _LONGEST_REST_SECONDS)
            self.is_resting = True
        self._resumed = now + self._seconds
        return self.is_resting

    def end(self, now: float) -> bool:
        """Return whether a rest is over now; once for each."""
        if not self.is_resting or now < self._resumed:
            return False
        self.is_resting, self._has_rested = False, True
        return True
