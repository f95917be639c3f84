"""Notice that the server in use was replaced, although it goes on taking writes.

What manages a cluster may die, and leave its primary running while another server is promoted. Rows
that the old primary takes from then on are lost once it follows the new one. They come back from
the log, but only for as long as that has their records. So several servers are asked regularly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

__all__ = ["TIMELINE", "PrimaryTimeline", "ReplacementWatch", "successor"]

_EVERY_SECONDS = 10.0
TIMELINE = """
SELECT system_identifier AS cluster, left(pg_walfile_name(pg_current_wal_lsn()), 8) AS number
FROM pg_control_system()
"""
"""Fails on a standby, and where the role may not call these functions."""


class PrimaryTimeline(NamedTuple):
    """The history that a primary writes. Each promotion begins one with a higher number.

    ``cluster`` is the same for a server and its copies. ``number`` has eight hexadecimal digits.
    """

    cluster: int
    number: str


def successor(used: str, found: Mapping[str, PrimaryTimeline]) -> str | None:
    """Return the server that replaced ``used``; ``None`` if none did, or if that is not known.

    ``found`` has the servers that take writes.
    """
    if used not in found:
        return None
    copies = {url: line for url, line in found.items() if line.cluster == found[used].cluster}
    newest = max(copies, key=lambda url: copies[url].number)
    return newest if copies[newest].number > found[used].number else None


class ReplacementWatch:
    """Calls ``examine`` every ten seconds from ``begin`` on, for as long as ``is_used`` says so."""

    def __init__(self, examine: Callable[[], Awaitable[None]], is_used: Callable[[], bool]) -> None:
        self._examine = examine
        self._is_used = is_used
        self._timer: asyncio.TimerHandle | None = None
        self._examining: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on, if that is not done yet."""
        if self._timer is None and self._examining is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._is_used():
            self._examining = asyncio.get_running_loop().create_task(self._examine_once())

    async def _examine_once(self) -> None:
        try:
            await self._examine()
        finally:  # the event loop reports an unknown error, and the next look may succeed
            self._examining = None
            self.begin()
