"""The last record of each stream that this process saw, to detect records that Redis forgot.

A promoted replica that was behind, or a server started from an older file, is consistent in itself:
records, group, accounts and memory all went back together. Only processes that knew the missing
records can notice. So each process keeps, for every stream, the figures of its last look and the id
of the last record that it knows, and sends both to the server at each look. Records that the server
then finds missing are counted in the group's accounts, which outlive this process.

An answer over a connection that is newer than the last look does not prove that earlier records are
still there: the server may have gone back, and the answer be about records appended after that. So
such answers are not noted until a look has found the records known before.

The cost is one comparison for each call that appends or reads, and none per message.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from transport.redis.records import is_later

__all__ = ["NOTHING_SEEN", "LastSeen"]

_NOTHING = ""
NOTHING_SEEN = (_NOTHING, _NOTHING, 0, _NOTHING, 0)
"""The arguments of a process that knows nothing, as for a group that is not the log's own."""


class _LastLook(msgspec.Struct):
    """The figures of the last look at one stream, and the ids learned since."""

    added: str = _NOTHING
    tail: str = _NOTHING
    unread: int = 0
    last: str = _NOTHING
    settled: str = _NOTHING
    connections: int = 0
    """How many connections had ever been made at the last look."""


class LastSeen:
    """Remembers the last seen records of all streams of a log, and of the group that works on it.

    ``connections`` returns how many connections to the server were ever made.
    """

    def __init__(self, partitions: int, connections: Callable[[], int]) -> None:
        self.connections = connections
        self._seen = [_LastLook() for _ in range(partitions)]

    def note_seen(self, partition: int, offset: str) -> None:
        """Note that ``offset`` was appended, or read."""
        seen = self._seen[partition]
        if not seen.last:
            seen.last, seen.connections = offset, self.connections()
        elif seen.connections == self.connections() and is_later(offset, seen.last):
            seen.last = offset

    def note_settled(self, partition: int, through: str) -> None:
        """Note that everything through ``through`` is settled."""
        self._seen[partition].settled = through

    def note_look(
        self, partition: int, *, added: int, tail: str, unread: int, connections: int
    ) -> None:
        """Note the figures of a look, which also found all records known before.

        Args:
            partition: The partition.
            added: How many records were ever appended.
            tail: The id of the last one.
            unread: How many records are unread.
            connections: How many connections had been made before the look.
        """
        seen = self._seen[partition]
        seen.added, seen.tail, seen.unread, seen.connections = str(added), tail, unread, connections
        if added and (not seen.last or is_later(tail, seen.last)):
            seen.last = tail

    def last(self, partition: int) -> str:
        """Return the id of the last record known to be in the log, or an empty text."""
        return self._seen[partition].last

    def forget(self, partition: int) -> None:
        """Forget the figures and ids of a partition whose missing records were counted."""
        self._seen[partition] = _LastLook()

    def arguments(self, partition: int) -> tuple[str, str, int, str, int]:
        """Return the arguments of lua/back.lua: added, tail, unread, last, may_be_unread."""
        seen = self._seen[partition]
        is_settled = self._is_settled(partition, seen.last or "0-0")
        return seen.added, seen.tail, seen.unread, seen.last, int(not is_settled)

    def arguments_for(self, partition: int, offset: str) -> tuple[str, str, int, str, int]:
        """Return the arguments for a record that another process, or an earlier one, knew.

        They don't mix with the figures of this process. If it was started after a loss, its looks
        were of the log without the lost records, and its own records are newer than those.
        """
        is_settled = self._is_settled(partition, offset)
        return _NOTHING, _NOTHING, 0, offset, int(not is_settled)

    def _is_settled(self, partition: int, offset: str) -> bool:
        through = self._seen[partition].settled
        return bool(through) and not is_later(offset, through)
