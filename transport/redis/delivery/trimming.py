"""Trimming: which acknowledged records to remove. Unacknowledged records always stay."""

from __future__ import annotations

from collections import deque

from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command
from transport.redis.keys import trimmed

__all__ = ["Retention"]

_STEPS = 16  # the limit of records is kept in steps of a sixteenth of it
_FULL_SECONDS = 60
"""The seconds that an acknowledged record stays even on a full server. PostgreSQL may fail over to
a standby that lacks its row; then the row is restored from the log."""


class Retention:
    """The retention of one partition's acknowledged records: for a time, and up to a number.

    Redis can't tell the id of the n-th record from the end without reading n records. So the claim
    notes some ids as it acknowledges. A new owner starts without notes, so for a while up to twice
    the number of records may stay, within the time.

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
        """The number of noted ids."""
        return len(self._notes)

    def acked(self, count: int, through: str) -> None:
        """Note that ``count`` more records, through ``through``, are acknowledged."""
        self._acked += count
        if self._acked - self._notes[-1][0] > self._records // _STEPS:
            self._notes.append((self._acked, through))
        while len(self._notes) > 1 and self._acked - self._notes[1][0] >= self._records:
            self._notes.popleft()

    def command(self, functions: Functions, stream: str, *, is_full: bool = False) -> Command:
        """Return the command that trims ``stream``, up to what every group has acknowledged.

        ``is_full``: the server is out of memory and refuses appends, so the retention is shortened
        to ``_FULL_SECONDS``.
        """
        acked, through = self._notes[0]
        crowded = through if self._acked - acked >= self._records else "0-0"
        seconds = min(self._seconds, _FULL_SECONDS) if is_full else self._seconds
        return functions.command("trim", (stream, trimmed(stream)), crowded, seconds)
