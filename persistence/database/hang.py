"""Notice that a server hangs while another one takes the writes, long before a statement's time.

A host whose processes stand still keeps its connections open and answers nothing on them. So what
is under way, and what goes out over an idle connection, would wait for all of
``DATABASE_TIMEOUT_SECONDS``. Here who waits longer than a moment has the servers looked at.
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

    ``examine`` looks at the servers, and leaves one that hangs where another takes the writes.
    """

    def __init__(self, examine: Callable[[], Awaitable[None]]) -> None:
        self._examine = examine
        self._asked: dict[Hashable, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._examining: asyncio.Task[None] | None = None

    def began(self, connection: Hashable) -> None:
        """Note that something is asked over a connection, or something else than before."""
        loop = asyncio.get_running_loop()
        self._asked[connection] = loop.time()
        if self._timer is None and self._examining is None:
            self._timer = loop.call_later(_QUIET_SECONDS, self._look)

    def ended(self, connection: Hashable) -> None:
        """Note that nothing is asked over a connection any more."""
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
