"""The dead letters of this process in the last seconds, appended again if a failover lost them.

A worker settles a record right after its dead letter was appended. A failover may lose the dead
letter, while PostgreSQL keeps the position. Then the message would be in no log and no row. The log
recognises letters that it still has, and their order does not matter, so each process appends its
own again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

import msgspec

from transport.contract import DeadLetter
from transport.errors import TransportError

__all__ = ["RecentLetters"]

_log = logging.getLogger(__name__)

_MOST_BYTES = 32 << 20
_LETTER_BYTES = 2048
"""The approximate bytes of a letter in memory, without its body."""
_LONGEST_OUTAGE_SECONDS = 3600.0
_PAUSE_SECONDS = 0.2
_KEPT_PER_TURN = 100

AppendAt = Callable[
    [Sequence[DeadLetter], Sequence[str], str], Awaitable[tuple[Sequence[str], int]]
]
"""Appends letters, which had these offsets, to the server with a replication id. Returns their
offsets there, and how many the server did not have."""


class _Kept(msgspec.Struct):
    """Letters that were appended together, and the last server known to have them."""

    at: float
    size: int
    letters: Sequence[DeadLetter]
    offsets: Sequence[str]
    server: str


class RecentLetters:
    """The letters of the last ``seconds``, within a limit of memory; the oldest are dropped first.

    Like recent appends, they age only when the server takes a write.

    Args:
        append: Appends letters again.
        seconds: How long letters are kept; 0: not at all.
    """

    def __init__(self, append: AppendAt, *, seconds: float) -> None:
        self.server = ""
        """The replication id of the last server that was met; empty if it is unknown."""
        self._append = append
        self._seconds = seconds
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._running: asyncio.Task[None] | None = None

    def note_server(self, server: str) -> None:
        """Note which server a connection was made to; append the letters again if it is new."""
        if server:
            self.server = server
            self._start()

    def add(self, letters: Sequence[DeadLetter], offsets: Sequence[str], server: str) -> None:
        """Note letters that were just appended, with their offsets.

        ``server``: the last server that was met before. If another one was met meanwhile, it may
        lack these letters.
        """
        if not self._seconds:
            return
        size = sum(len(it.record.body) + _LETTER_BYTES for it in letters)
        self._kept.append(_Kept(time.monotonic(), size, letters, offsets, server))
        self._bytes += size
        self.age()
        while self._bytes > _MOST_BYTES:
            self._drop()
        self._start()

    def age(self) -> None:
        """Drop the letters that are too old; called when the server takes a write."""
        oldest = time.monotonic() - self._seconds
        while self._kept and self._kept[0].at < oldest and self._kept[0].server == self.server:
            self._drop()

    async def close(self) -> None:
        """Append nothing more, and keep nothing."""
        self._seconds = 0.0
        self._kept.clear()
        self._bytes = 0
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _due(self) -> list[_Kept]:
        return [it for it in self._kept if it.server != self.server]

    def _drop(self) -> None:
        self._bytes -= self._kept.popleft().size

    def _start(self) -> None:
        if self._running is None and self._due():
            self._running = asyncio.create_task(self._run(), name="dead letters again")

    async def _again(self, due: Sequence[_Kept], server: str) -> int:
        """Append letters to a server, if they are not too old; return how many it did not have."""
        oldest = time.monotonic() - _LONGEST_OUTAGE_SECONDS
        some = [it for it in due if it.at > oldest]
        letters = [letter for it in some for letter in it.letters]
        offsets = [offset for it in some for offset in it.offsets]
        found, new = await self._append(letters, offsets, server)
        left = iter(found)
        for it in some:
            it.offsets = list(islice(left, len(it.offsets)))
        for it in due:
            it.server = server
        return new

    async def _run(self) -> None:
        count = 0
        try:
            while due := self._due():
                server = self.server
                try:
                    for first in range(0, len(due), _KEPT_PER_TURN):
                        count += await self._again(due[first : first + _KEPT_PER_TURN], server)
                except TransportError:  # another server took over, or this one can't write now
                    await asyncio.sleep(_PAUSE_SECONDS)
        except Exception:  # noqa: BLE001 - the next letter, or server, begins it again
            _log.exception("Dead letters that a failover may have lost are not appended again")
        finally:
            self._running = None
        if count:
            _log.error(
                "A failover lost %d dead letters that this process still had: they were appended "
                "again",
                count,
            )
