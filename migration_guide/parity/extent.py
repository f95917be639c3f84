"""How far one partition of a log was read, and from where on the log holds it.

Cells that share a partition share its extent: a record that is read for one cell counts for the
others too.
"""

from __future__ import annotations

from migration_guide.parity.beginning import Beginning
from migration_guide.parity.facts import Facts

__all__ = ["Extent"]


class Extent:
    """The extent of one partition. Times are seconds since the epoch.

    ``read_after``: the place after which reading began. ``first_held``: the place of the log's
    first record, empty if none was seen. ``held_from``: the time from which the log holds
    everything that came to it. ``begin``: the place of the first record read that was appended at
    ``since`` or later. ``first_read``: the offset of the first record read. ``latest``: the last
    record read. ``reach``: the time up to which the partition was read.
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
        """The place of the last record read, empty if there is none."""
        return self.latest.place if self.latest else b""

    def passed(self, facts: Facts) -> None:
        """Record that the partition was read through ``facts``."""
        if self.latest is None:
            self.first_read = facts.offset
        self.latest = facts
        self.first_held = self.first_held or facts.place
        self.reach = max(self.reach, facts.appended_at)
        if self.begin is None and facts.appended_at >= self._since:
            self.begin = facts.place

    def at_end(self, moment: float) -> None:
        """Record that the partition held nothing more at ``moment``."""
        self.reach = max(self.reach, moment)

    def begins_at(self, place: bytes, held_from: float) -> None:
        """Record where the partition begins now: records before ``place`` were trimmed.

        Ignored if no record was ever seen in it: then nothing was trimmed, and what it lacks is
        missing.
        """
        if self.first_held not in (b"", place):
            self.first_held = place
            self.held_from = max(self.held_from, held_from)
