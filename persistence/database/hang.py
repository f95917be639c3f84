"""Notice a server that hangs while another one takes the writes, long before a statement times out.

A host whose processes stand still keeps its connections open and answers nothing. So requests under
way, and new requests over idle connections, would wait for all of ``DATABASE_TIMEOUT_SECONDS``.
Here, after a short wait for an answer, the servers are examined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

import structlog

__all__ = ["HangWatch"]

_log = structlog.get_logger(__name__)

_QUIET_SECONDS = 2.0


class HangWatch:
    """Watches the requests to one of several servers. Keys are connections in use.

    ``examine`` checks the servers, and leaves one that hangs if another takes the writes.
    """

    def __init__(self, examine: Callable[[], Awaitable[None]]) -> None:
        self._examine = examine
        self._asked: dict[Hashable, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._examining: asyncio.Task[None] | None = None

    def began(self, connection: Hashable) -> None:
        """Record that a statement was sent over a connection, or another one than before."""
        loop = asyncio.get_running_loop()
        self._asked[connection] = loop.time()
        if self._timer is None and self._examining is None:
            self._timer = loop.call_later(_QUIET_SECONDS, self._look)

    def ended(self, connection: Hashable) -> None:
        """Record that no statement is under way over a connection any more."""
        self._asked.pop(connection, None)

    def _look(self) -> None:
        self._timer = None
        if not self._asked:
            return
        loop = asyncio.get_running_loop()
        left = min(self._asked.values()) + _QUIET_SECONDS - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            self._examining = loop.create_task(self._examine_once())

    async def _examine_once(self) -> None:
        try:
            await self._examine()
        except Exception as error:  # noqa: BLE001 - the statement has its own time limit
            _log.warning("Servers of DATABASE_URL not examined", error=str(error))
        finally:
            self._examining = None
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_QUIET_SECONDS / 2, self._look)
