"""The watch over the primary that sentinels name.

A primary that is cut off from its replicas and from the sentinels does not notice it. It
acknowledges what it is sent until it becomes a replica, and then throws it away. So the sentinels
are asked all the time, and not only when a connection is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from transport.errors import TransportError
from transport.redis.connection.locator import Place, SentinelLocator

__all__ = ["PrimaryWatch"]

_log = logging.getLogger(__name__)

_SECONDS = 1.0  # between two questions; acknowledgements of a former primary end within it
_OTHERS_SECONDS = 5.0


class PrimaryWatch:
    """Asks the sentinels every second until it is closed.

    Args:
        sentinels: The sentinels.
        move: Closes the connections to all servers but one.
    """

    def __init__(self, sentinels: SentinelLocator, move: Callable[[Place], None]) -> None:
        self._sentinels = sentinels
        self._move = move
        self._named: Place | None = None
        self._logged: object = ()
        self._tasks = [
            asyncio.create_task(self._follow(), name="primary watch"),
            asyncio.create_task(self._find_others(), name="other primaries"),
        ]

    async def close(self) -> None:
        """End the watch."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TransportError):
                address = await self._sentinels.locate()
                self._leave_all_but((address.host, address.port))
            self._log_warnings()
            await asyncio.sleep(_SECONDS)

    def _leave_all_but(self, place: Place) -> None:
        self._move(place)
        if self._named not in {None, place}:
            _log.warning(
                "The sentinels name another primary, %s:%d: connections to the former one were "
                "closed",
                *place,
            )
        self._named = place

    async def _find_others(self) -> None:
        while True:
            await self._sentinels.find_others()
            await asyncio.sleep(_OTHERS_SECONDS)

    def _log_warnings(self) -> None:
        """Log all warnings when one begins."""
        begun = (bool(self._sentinels.doubts), *self._sentinels.others)
        if begun != self._logged:
            for warning in self._sentinels.warnings:
                _log.error("Redis behind sentinels: %s", warning)
        self._logged = begun
