"""The last record of each stream that this process saw, to detect records that Redis forgot.

A replica that was behind and is promoted, or a server started from an older file, is consistent in
itself: records, group, accounts and memory all went back together. Only those who were told of the
records that are missing can tell. So each process keeps, of every stream, what it last saw there
and the last record that it was told of, and shows both to the server whenever it looks. What the
server then finds missing is counted in the group's accounts, where it outlives this process.

An answer over a connection that is newer than the last look proves nothing of the records
before: it may be of a server that went back, and of records that came after that. So it is not
noted until a look has found what was known before.

It takes no work per message: one comparison for each call that appends, reads or acknowledges.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from transport.redis.records import is_later

__all__ = ["NOTHING_SEEN", "LastSeen"]

_NOTHING = ""
NOTHING_SEEN = (_NOTHING, _NOTHING, 0, _NOTHING, 0)
"""The arguments of one that knows nothing, as of a group that is not the log's own."""


class _LastLook(msgspec.Struct):
    """Of one stream: the last look's figures, and ids known from what was done there since."""

    added: str = _NOTHING
    tail: str = _NOTHING
    unread: int = 0
    last: str = _NOTHING
    acknowledged: str = _NOTHING
    connections: int = 0
    """How many connections had ever been made at the last look."""


class LastSeen:
    """Of all streams of a log, and of the group that works on it.

    ``connections`` tells how many connections to the server were ever made.
    """

    def __init__(self, partitions: int, connections: Callable[[], int]) -> None:
        self.connections = connections
        self._seen = [_LastLook() for _ in range(partitions)]

    def saw(self, partition: int, offset: str) -> None:
        """Note that ``offset`` was appended, or read."""
        seen = self._seen[partition]
        if not seen.last:
            seen.last, seen.connections = offset, self.connections()
        elif seen.connections == self.connections() and is_later(offset, seen.last):
            seen.last = offset

    def acknowledged(self, partition: int, through: str) -> None:
        """Note that everything through ``through`` was acknowledged."""
        self._seen[partition].acknowledged = through

    def looked(
        self, partition: int, *, added: int, tail: str, unread: int, connections: int
    ) -> None:
        """Note how many records were ever appended, the id of the last, and how many are unread.

        And that what was known before is there: ``connections`` had been made when it was asked.
        """
        seen = self._seen[partition]
        seen.added, seen.tail, seen.unread, seen.connections = str(added), tail, unread, connections
        if added and (not seen.last or is_later(tail, seen.last)):
            seen.last = tail

    def last(self, partition: int) -> str:
        """Return the last id that was known to be there, or an empty text."""
        return self._seen[partition].last

    def forget(self, partition: int) -> None:
        """Begin anew: the missing records have been counted."""
        self._seen[partition] = _LastLook()

    def arguments(self, partition: int) -> tuple[str, str, int, str, int]:
        """Return the arguments of lua/back.lua: added, tail, unread, last, may_be_unread."""
        seen = self._seen[partition]
        is_settled = self._is_acknowledged(partition, seen.last or "0-0")
        return seen.added, seen.tail, seen.unread, seen.last, int(not is_settled)

    def arguments_for(self, partition: int, offset: str) -> tuple[str, str, int, str, int]:
        """Return the same for a record that another process, or an earlier one, was told of.

        It is kept apart from what this process knows: the looks of one that was started after a
        loss are of the log as it is now, and its own records are newer than those that are gone.
        """
        is_settled = self._is_acknowledged(partition, offset)
        return _NOTHING, _NOTHING, 0, offset, int(not is_settled)

    def _is_acknowledged(self, partition: int, offset: str) -> bool:
        through = self._seen[partition].acknowledged
        return bool(through) and not is_later(offset, through)
