"""The notifier of a cluster, where one blocking read can't wait for streams of two slots.

Each stream has a notifier and a connection of its own. No server can wait for several slots over
one connection: Valkey 9 refuses that with CROSSSLOT even if it has both slots.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Self

from transport.redis.cluster.cluster import Cluster
from transport.redis.connection.connection import RedisConnection, Reply
from transport.redis.delivery.append_notifier import Answered, AppendNotifier

__all__ = ["SlotNotifiers"]


class SlotNotifiers:
    """Has an ``AppendNotifier`` for each stream, made when a read first waits for the stream."""

    def __init__(self, cluster: Cluster, answered: Answered) -> None:
        self._cluster = cluster
        self._answered = answered
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
            place = _StreamConnections(self._cluster, stream)
            notifier = self._notifiers[stream] = AppendNotifier(place, self._answered)
            await notifier.__aenter__()
        return await notifier.wait(stream, after=after, seconds=seconds)

    def is_quiet(self, stream: str, *, after: str) -> bool:
        """Return whether this or the next read will notice any entry after ``after``."""
        notifier = self._notifiers.get(stream)
        return notifier is not None and notifier.is_quiet(stream, after=after)

    def appended(self, stream: str, *, before: str, last: str) -> None:
        """Ring for entries that this process appended; see ``AppendNotifier.appended``."""
        if notifier := self._notifiers.get(stream):
            notifier.appended(stream, before=before, last=last)


class _StreamConnections:
    """Lends connections to the server that has a stream now."""

    def __init__(self, cluster: Cluster, stream: str) -> None:
        self._cluster = cluster
        self._stream = stream

    def lend(self) -> AbstractAsyncContextManager[RedisConnection]:
        return self._cluster.lend_waiting(self._stream)

    async def call(self, *command: str | bytes | int) -> Reply:
        raise NotImplementedError  # it only ends reads that lack a stream; this has all of one
