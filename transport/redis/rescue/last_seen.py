"""The last record of each generation that this process knows, to detect records that Redis forgot.

A promoted replica that was behind, or a server started from an older file, is consistent in itself:
records, group, accounts and memory all went back together. Only processes that knew the missing
records can notice. So each process keeps the last record of each generation that it appended or
read, and sends it to the server at each look. Records beyond the end that the generation has there
are counted as lost, by subtraction, in the group's accounts, which outlive this process.
"""

from __future__ import annotations

from transport.redis.records import is_later

__all__ = ["LastSeen"]

_MOST_GENERATIONS = 4
_NOTHING = "0-0"


class _LastIds(dict[str, str]):
    """The last ids of the latest generations."""

    def note(self, offset: str) -> None:
        """Note an id, unless a later one of its generation is known."""
        generation = offset.partition("-")[0]
        known = self.get(generation)
        if known is None or is_later(offset, known):
            self[generation] = offset
            if len(self) > _MOST_GENERATIONS:
                del self[next(iter(self))]


class LastSeen:
    """Remembers the last records and the settled positions of all partitions of a log."""

    def __init__(self, partitions: int) -> None:
        self._ends = [_LastIds() for _ in range(partitions)]
        self._settled = [_LastIds() for _ in range(partitions)]
        self._position = [""] * partitions

    def note_seen(self, partition: int, offset: str) -> None:
        """Note that ``offset`` was appended, or read."""
        self._ends[partition].note(offset)

    def note_settled(self, partition: int, through: str) -> None:
        """Note that everything through ``through`` is settled."""
        self._settled[partition].note(through)
        self._position[partition] = through

    def forget_settled(self) -> None:
        """Forget all settled positions: their group was forgotten."""
        self._position = [""] * len(self._position)

    def last(self, partition: int) -> str | None:
        """Return the id of the last record known to be in the log."""
        last = None
        for end in self._ends[partition].values():
            last = end if last is None or is_later(end, last) else last
        return last

    def known(self, partition: int) -> list[str]:
        """Return the arguments of ``look`` (lua/accounts.lua)."""
        found = [self._position[partition]]
        for generation, end in self._ends[partition].items():
            found += (end, self._settled[partition].get(generation, _NOTHING))
        return found

    def known_of(self, partition: int, end: str) -> list[str]:
        """Return the arguments of ``look`` for a record that another process knew."""
        settled = self._settled[partition].get(end.partition("-")[0], _NOTHING)
        return [self._position[partition], end, settled]
