"""Choose acknowledged records to remove. Unacknowledged records always stay."""

from __future__ import annotations

from collections import deque

from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command
from transport.redis.keys import trimmed

__all__ = ["Retention"]

_STEPS = 16  # how finely "at most so many records" is kept
_FULL_SECONDS = 60
"""How long an acknowledged record stays at least on a full server: PostgreSQL may fail over to a
standby that lacks its row, which is put back from the log."""


class Retention:
    """How long acknowledged records of one partition stay: for a time, and up to a number.

    Redis can't tell the id of the n-th record from the end without reading n records, so the claim
    notes ids as it acknowledges, a few of them. A new owner starts without notes: for a while up to
    twice the number may stay, or as many as the time allows.

    Args:
        seconds: how long an acknowledged record stays.
        records: the most acknowledged records that stay.
    """

    def __init__(self, *, seconds: int, records: int) -> None:
        self._seconds = seconds
        self._records = records
        self._acked = 0
        self._notes: deque[tuple[int, str]] = deque([(0, "0-0")])

    @property
    def notes(self) -> int:
        """How many ids are noted."""
        return len(self._notes)

    def acked(self, count: int, through: str) -> None:
        """Note that ``count`` more records, through ``through``, are acknowledged."""
        self._acked += count
        if self._acked - self._notes[-1][0] > self._records // _STEPS:
            self._notes.append((self._acked, through))
        while len(self._notes) > 1 and self._acked - self._notes[1][0] >= self._records:
            self._notes.popleft()

    def command(self, functions: Functions, stream: str, *, is_full: bool = False) -> Command:
        """Return the command that trims ``stream`` below what every group has acknowledged.

        ``is_full``: the server refuses appends for want of memory, so less stays than may.
        """
        acked, through = self._notes[0]
        crowded = through if self._acked - acked >= self._records else "0-0"
        seconds = min(self._seconds, _FULL_SECONDS) if is_full else self._seconds
        return functions.command("trim", (stream, trimmed(stream)), crowded, seconds)
