"""Pauses during which a claim only reads, because other processes append to its partition as well.

Switching between reading and handing over costs more than reading. So a claim that has to read
again soon after it could be handed records pauses, longer each time.
"""

from __future__ import annotations

__all__ = ["HandOverPauses"]

_INTERRUPTED_SECONDS = 0.5
_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0


class HandOverPauses:
    """The pauses of one claim. ``now`` is the event loop's time, in seconds."""

    def __init__(self) -> None:
        self.is_paused = False
        self._has_paused = False  # whether a pause has ended and nothing was read since
        self._seconds = 0.0
        self._resumed = -_INTERRUPTED_SECONDS  # when the last pause ended, or ends

    def note_read(self, now: float) -> bool:
        """Note that records were read; return whether a pause begins now."""
        if self.is_paused:
            return False
        if self._has_paused:  # these records came during the pause
            self._has_paused = False
            return False
        if now - self._resumed > _INTERRUPTED_SECONDS:
            self._seconds = 0.0
        else:
            self._seconds = min(2 * self._seconds + _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
            self.is_paused = True
        self._resumed = now + self._seconds
        return self.is_paused

    def resumes(self, now: float) -> bool:
        """Return whether a pause is over now; true once for each pause."""
        if not self.is_paused or now < self._resumed:
            return False
        self.is_paused, self._has_paused = False, True
        return True
