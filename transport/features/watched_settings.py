"""Looks at a log's settings while we run: others may alter them, and a server tells no client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

__all__ = ["WatchedSettings"]

_log = logging.getLogger(__name__)

_SECONDS = 10.0  # between two looks


class WatchedSettings:
    """Looks at most once in ten seconds, and logs a change once.

    Args:
        of: What has the settings, such as ``Kafka's topics``, for the log.
        look: Returns each setting that is not as wanted, as text.
    """

    def __init__(self, of: str, look: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._of = of
        self._look = look
        self._found: Sequence[str] = ()
        self._looked = float("-inf")

    async def now(self) -> Sequence[str]:
        """Return every setting that is not as wanted, as of the last look.

        Raises:
            TransportError: from ``look``.
        """
        time = asyncio.get_running_loop().time()
        if time - self._looked >= _SECONDS:
            found = await self._look()
            self._looked = time
            if list(found) != list(self._found):
                self._tell(found)
            self._found = found
        return self._found

    def _tell(self, found: Sequence[str]) -> None:
        if found:
            _log.error(
                "Settings of %s are not as wanted: alter them back. Records may be lost or "
                "refused, and a start may be refused",
                self._of,
                extra={"differences": list(found)},
            )
        else:
            _log.info("Settings of %s are as wanted again", self._of)
