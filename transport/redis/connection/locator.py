"""Where the server is that takes writes: asked whenever a connection is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from transport.errors import TransportError, TransportUnavailable
from transport.redis.connection.connection import Address, RedisConnection
from transport.redis.connection.errors import translate

__all__ = ["Locator", "SentinelLocator", "StaticLocator"]


class Locator(Protocol):
    """Knows the server that takes writes now."""

    async def locate(self) -> Address:
        """Return its address.

        Raises:
            TransportUnavailable: nobody can tell.
        """

    def close(self) -> None:
        """Close what it asks."""


class StaticLocator:
    """One address, whatever is behind it."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def locate(self) -> Address:
        """Return the address."""
        return self._address

    def close(self) -> None:
        """Nothing is open."""


class _Primary(NamedTuple):
    """A sentinel's answer; the highest ``epoch`` is the latest failover's."""

    epoch: int
    host: str
    port: int


class SentinelLocator:
    """The primary that sentinels name.

    All are asked at once, and most of them have to answer: the latest failover is known to most,
    and one that is cut off may name a primary that is no more. Not redis-py's Sentinel pool, which
    tries the old primary again (redis-py issues 3560 and 3874).

    Args:
        sentinels: Where they are, and how to begin with them.
        master: The primary's name, as they know it.
        address: How to begin with the primary; host and port are replaced.
    """

    def __init__(self, sentinels: Sequence[Address], master: str, address: Address) -> None:
        self._master = master
        self._address = msgspec.structs.replace(address, wants_primary=True)
        self._named = ", ".join(f"{it.host}:{it.port}" for it in sentinels)
        self._connections = [RedisConnection(StaticLocator(it)) for it in sentinels]
        self._asking: asyncio.Task[Address] | None = None

    async def locate(self) -> Address:
        """Return the primary's address; those who ask at the same time share one answer.

        Raises:
            TransportUnavailable: too few sentinels answer, or they don't know it.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_looked_at)
        return await asyncio.shield(self._asking)

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for connection in self._connections:
            connection.hang_up()

    async def _ask(self) -> Address:
        asked = [asyncio.create_task(self._ask_one(it)) for it in self._connections]
        needed = len(asked) // 2 + 1
        found: list[_Primary] = []
        errors: list[TransportError] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    found.append(await answer)
                except TransportError as error:
                    errors.append(error)
                if len(found) == needed:
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        if len(found) < needed:
            raise TransportUnavailable(
                f"{len(found)} of {len(asked)} sentinels ({self._named}) name the primary "
                f"{self._master!r}, and {needed} have to: check REDIS_URL and "
                f"REDIS_SENTINEL_PASSWORD, and that they run ({errors[0]})"
            ) from errors[0]
        latest = max(found)
        return msgspec.structs.replace(self._address, host=latest.host, port=latest.port)

    async def _ask_one(self, connection: RedisConnection) -> _Primary:
        await connection.open()
        (reply,) = await connection.exchange([("SENTINEL", "MASTER", self._master)])
        if isinstance(reply, Exception):
            raise translate(reply)
        told = dict(zip(reply[::2], reply[1::2], strict=True))
        return _Primary(int(told[b"config-epoch"]), told[b"ip"].decode(), int(told[b"port"]))


def _looked_at(task: asyncio.Task[Address]) -> None:
    """Have nothing said of an error whose waiters have all gone."""
    if not task.cancelled():
        task.exception()
