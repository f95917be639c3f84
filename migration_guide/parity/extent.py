"""How far one partition of a log was read, and what of it the log holds.

The cells of a group share the extents of their partitions: what one cell's record tells of its
partition, it tells the others too.
"""

from __future__ import annotations

from migration_guide.parity.beginning import Beginning
from migration_guide.parity.facts import Facts

__all__ = ["Extent"]


class Extent:
    """Of one partition. Times are seconds since the epoch.

    ``read_after``: the place after which it is read. ``first_held``: the place of the log's first
    record, empty where none was seen. ``held_from``: the time from which the log holds everything
    that came to it. ``begin``: the place of the first record read that is of ``since`` or later.
    ``first_read``: the offset of the first record read. ``latest``: the record through which it was
    read. ``reach``: the time through which it was.
    """

    def __init__(self, begins: Beginning, since: float) -> None:
        self.read_after = begins.read_after
        self.first_held = begins.first_held
        self.held_from = begins.held_from
        self.begin: bytes | None = None
        self.first_read: str | None = None
        self.latest: Facts | None = None
        self.reach = 0.0
        self._since = since

    @property
    def cursor(self) -> bytes:
        """The place through which it was read."""
        return self.latest.place if self.latest else b""

    def passed(self, facts: Facts) -> None:
        """Note that it was read through a record."""
        if self.latest is None:
            self.first_read = facts.offset
        self.latest = facts
        self.first_held = self.first_held or facts.place
        self.reach = max(self.reach, facts.appended_at)
        if self.begin is None and facts.appended_at >= self._since:
            self.begin = facts.place

    def at_end(self, moment: float) -> None:
        """Note that it held nothing more at ``moment``."""
        self.reach = max(self.reach, moment)

    def begins_at(self, place: bytes, held_from: float) -> None:
        """Note where it begins now: what stood before that place was trimmed.

        One of which nothing was ever seen was not trimmed: what it lacks is missing.
        """
        if self.first_held not in (b"", place):
            self.first_held = place
            self.held_from = max(self.held_from, held_from)
