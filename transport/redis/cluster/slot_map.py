"""The map of a cluster's slots to servers, made of a server's answer (``CLUSTER SLOTS``)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from transport.redis.connection.connection import Reply

__all__ = ["NO_HOST", "Place", "SlotMap"]

NO_HOST = "?"
"""A server's answer in place of the host name of another server, if it does not know that name."""

Place = tuple[str, int]
"""Host and port."""


class SlotMap(msgspec.Struct, frozen=True):
    """Ranges of slots in order: the first and the last of each, and its primary."""

    ranges: tuple[tuple[int, int, Place], ...] = ()

    @classmethod
    def read(cls, told: Reply, by: str) -> SlotMap:
        """Read the answer of a server at the host ``by``.

        ``CLUSTER SLOTS`` names the owner of each range first, and has the port that suits the
        connection, with TLS or without. ``CLUSTER SHARDS`` may name two primaries in a shard, one
        of which has failed.
        """
        ranges = []
        for first, last, primary, *_ in told:
            host = (primary[0] or b"").decode()
            if host == NO_HOST:
                host = _address(primary)
            ranges.append((first, last, (host or by, primary[1])))
        return cls(tuple(sorted(ranges)))

    @property
    def places(self) -> Sequence[Place]:
        """The primaries that have slots."""
        return list(dict.fromkeys(place for _, _, place in self.ranges))

    def place_of(self, slot: int) -> Place | None:
        """Return the place of the primary that has a slot; ``None`` if no primary has it."""
        at = bisect_right(self.ranges, slot, key=lambda it: it[0]) - 1
        if at < 0:
            return None
        _, last, place = self.ranges[at]
        return place if slot <= last else None


def _address(primary: Sequence[Reply]) -> str:
    """Return the IP address of a server without a host name, from the rest of its entry."""
    beside = primary[3] if len(primary) > 3 else ()  # noqa: PLR2004 - host, port and id come first
    named = dict(zip(beside[::2], beside[1::2], strict=False))
    address: bytes = named.get(b"ip", b"")
    return address.decode()
