"""Reads that wait for an append, over one blocking connection for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from transport.contract import Record, Topic
from transport.errors import TransportUnavailable
from transport.redis.append.own_appends import OwnAppends, Run
from transport.redis.delivery.append_notifier import AppendNotifier
from transport.redis.delivery.slot_notifiers import SlotNotifiers
from transport.redis.keys import TopicKeys

__all__ = ["WaitingReads"]

_BEGINNING = "0-0"

Read = Callable[[], Awaitable[Sequence[Record]]]


class WaitingReads:
    """Repeats a read that found nothing once its stream may have a later entry.

    Args:
        make: Makes the notifier at the first wait. A log that no reader waits for needs none.
        messages: The keys of the messages.
        own_appends: The latest messages that this process appended.
    """

    def __init__(
        self,
        make: Callable[[], AppendNotifier | SlotNotifiers],
        messages: TopicKeys,
        own_appends: OwnAppends,
    ) -> None:
        self._make = make
        self._streams = messages.streams
        self._own_appends = own_appends
        self._notifier: AppendNotifier | SlotNotifiers | None = None
        self._closed = False
        own_appends.on_kept = self._ring

    async def read(
        self,
        log: TopicKeys,
        partition: int,
        read: Read,
        *,
        after: str | None,
        limit: int,
        seconds: float,
    ) -> Sequence[Record]:
        """Return what ``read`` finds, waiting at most ``seconds`` for it to find anything.

        Messages that this process has just appended come from memory.

        Raises:
            TransportUnavailable: the log can't be read now.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        begin, stream = after or _BEGINNING, log.streams[partition]
        own = self._own_appends if log.topic is Topic.MESSAGES else None
        has_waited = False
        while not self._closed:
            if own is not None:
                own.want(partition, max(0.0, deadline - loop.time()))
                if kept := own.take(partition, after, limit):
                    return kept
            # After a wait, always read: the notifier may miss an entry, or the server be away.
            if has_waited or not self._is_quiet(stream, begin):
                found = await read()
                if found:
                    return found
                if own is not None and (kept := own.take(partition, after, limit)):
                    return kept
            left = deadline - loop.time()
            if left <= 0:
                break
            if self._notifier is None:
                self._notifier = self._make()
                await self._notifier.__aenter__()
            await self._notifier.wait(stream, after=begin, seconds=left)
            has_waited = True
        if self._closed:
            raise TransportUnavailable("this log is closed")
        return []

    async def close(self) -> None:
        """End all waits, and close the connection."""
        self._closed = True
        if self._notifier is not None:
            await self._notifier.__aexit__(None, None, None)

    def _is_quiet(self, stream: str, after: str) -> bool:
        return self._notifier is not None and self._notifier.is_quiet(stream, after=after)

    def _ring(self, partition: int, run: Run) -> None:
        if self._notifier is not None:
            self._notifier.appended(self._streams[partition], before=run.before, last=run.last)
