"""Reads without a group that wait for an append, over one blocking connection for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from transport.contract import Record
from transport.redis.delivery.append_notifier import AppendNotifier
from transport.redis.delivery.slot_notifiers import SlotNotifiers

__all__ = ["WaitingReads"]

_BEGINNING = "0-0"

Read = Callable[[], Awaitable[Sequence[Record]]]


class WaitingReads:
    """Repeats a read that found nothing once its stream may have a later entry.

    Args:
        make: makes the notifier at the first wait. A log that nobody waits for needs none.
    """

    def __init__(self, make: Callable[[], AppendNotifier | SlotNotifiers]) -> None:
        self._make = make
        self._notifier: AppendNotifier | SlotNotifiers | None = None
        self._closed = False

    async def read(
        self, stream: str, read: Read, *, after: str | None, seconds: float
    ) -> Sequence[Record]:
        """Return what ``read`` finds, waiting at most ``seconds`` for it to find anything.

        Raises:
            TransportUnavailable: the log can't be read now.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        begin = after or _BEGINNING
        while not self._closed:
            if self._notifier is not None:
                # It listens before this reads, so no append falls between the two.
                self._notifier.watch(stream, after=begin)
            found = await read()
            left = deadline - loop.time()
            if found or left <= 0:
                return found
            if self._notifier is None:
                self._notifier = self._make()
                await self._notifier.__aenter__()
            else:
                await self._notifier.wait(stream, after=begin, seconds=left)
        return []

    async def close(self) -> None:
        """End all waits, and close the connection."""
        self._closed = True
        if self._notifier is not None:
            await self._notifier.__aexit__(None, None, None)
