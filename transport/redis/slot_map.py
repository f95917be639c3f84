"""Which server of a cluster has which slots, as one of them tells (``CLUSTER SLOTS``)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from transport.redis.connection import Reply

__all__ = ["Place", "SlotMap"]

Place = tuple[str, int]
"""Host and port."""


class SlotMap(msgspec.Struct, frozen=True):
    """Ranges of slots in order: the first and the last of each, and its primary."""

    ranges: tuple[tuple[int, int, Place], ...] = ()

    @classmethod
    def read(cls, told: Reply, by: str) -> SlotMap:
        """Return what a server at the host ``by`` told.

        ``CLUSTER SLOTS`` and not ``CLUSTER SHARDS``: it has the owner of each range first, where
        the other may have two primaries in a shard, one of them the one that failed. It also has
        the port that suits the connection, TLS or not.
        """
        ranges = []
        for first, last, primary, *_ in told:
            host = (primary[0] or b"").decode()
            if host == "?":  # a name that it does not know yet
                continue
            ranges.append((first, last, (host or by, primary[1])))
        return cls(tuple(sorted(ranges)))

    @property
    def places(self) -> Sequence[Place]:
        """The primaries that have slots."""
        return list(dict.fromkeys(place for _, _, place in self.ranges))

    def place_of(self, slot: int) -> Place | None:
        """Return the primary of a slot, or ``None`` where nobody has it."""
        at = bisect_right(self.ranges, slot, key=lambda it: it[0]) - 1
        if at < 0:
            return None
        _, last, place = self.ranges[at]
        return place if slot <= last else None
