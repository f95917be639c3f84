"""Wakes idle claims in a cluster, where one read can't wait for streams of two slots.

So each stream has a notifier of its own, over a connection of its own. A server has no way to wait
for several slots with one (Valkey 9 refuses it with CROSSSLOT, also where it has both of them).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Self

from transport.redis.cluster.cluster import Cluster
from transport.redis.connection.connection import RedisConnection, Reply
from transport.redis.delivery.append_notifier import AppendNotifier

__all__ = ["SlotNotifiers"]


class SlotNotifiers:
    """See ``AppendNotifier``; a stream gets one when it is first waited for."""

    def __init__(self, cluster: Cluster, is_appending: Callable[[], bool] = lambda: False) -> None:
        self._cluster = cluster
        self._is_appending = is_appending
        self._notifiers: dict[str, AppendNotifier] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        notifiers = list(self._notifiers.values())
        await asyncio.gather(*(notifier.__aexit__(*exc) for notifier in notifiers))

    async def wait(self, stream: str, *, after: str, seconds: float) -> bool:
        """Return whether ``stream`` may hold an entry after ``after``; see ``AppendNotifier``."""
        if self._closed:
            return True
        notifier = self._notifiers.get(stream)
        if notifier is None:
            place = _PlaceOf(self._cluster, stream)
            notifier = self._notifiers[stream] = AppendNotifier(place, self._is_appending)
            await notifier.__aenter__()
        return await notifier.wait(stream, after=after, seconds=seconds)

    def watch(self, stream: str, *, after: str) -> None:
        """Have the next read tell of what is appended to ``stream`` after an entry."""
        if notifier := self._notifiers.get(stream):
            notifier.watch(stream, after=after)

    def is_quiet(self, stream: str, *, after: str) -> bool:
        """Return whether the read tells of any entry after ``after``."""
        notifier = self._notifiers.get(stream)
        return notifier is not None and notifier.is_quiet(stream, after=after)

    def heard(self, stream: str, offset: str) -> None:
        """Tell of nothing through ``offset``."""
        if notifier := self._notifiers.get(stream):
            notifier.heard(stream, offset)

    def ring(self, stream: str) -> None:
        """End the wait for ``stream``, if anyone waits."""
        if notifier := self._notifiers.get(stream):
            notifier.ring(stream)

    def forget(self, stream: str) -> None:
        """Listen to ``stream`` no longer."""
        if notifier := self._notifiers.get(stream):
            notifier.forget(stream)


class _PlaceOf:
    """Lends connections to wherever a stream is."""

    def __init__(self, cluster: Cluster, stream: str) -> None:
        self._cluster = cluster
        self._stream = stream

    def lend(self) -> AbstractAsyncContextManager[RedisConnection]:
        return self._cluster.lend_waiting(self._stream)

    async def call(self, *command: str | bytes | int) -> Reply:
        raise NotImplementedError  # a read that covers its only stream is never ended
