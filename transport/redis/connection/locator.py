"""Locators: they find the server that takes writes, each time that a connection is opened."""

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
    """Finds the server that takes writes now."""

    async def locate(self) -> Address:
        """Return the server's address.

        Raises:
            TransportUnavailable: the address can't be found out.
        """

    def close(self) -> None:
        """Close the connections that the locator uses."""


class StaticLocator:
    """Always returns the same address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def locate(self) -> Address:
        """Return the address."""
        return self._address

    def close(self) -> None:
        """Do nothing: no connection is open."""


class _Primary(NamedTuple):
    """A sentinel's answer; the latest failover has the highest ``epoch``."""

    epoch: int
    host: str
    port: int


class SentinelLocator:
    """Asks sentinels for the address of the primary.

    It asks all sentinels at once, and a majority has to answer: a majority knows the latest
    failover, while a sentinel that is cut off may name a former primary. redis-py's Sentinel pool
    is not used, since it tries the old primary again (redis-py issues 3560 and 3874).

    Args:
        sentinels: The addresses of the sentinels.
        master: The name that the sentinels have for the primary.
        address: The address of the primary; its host and port are replaced.
    """

    def __init__(self, sentinels: Sequence[Address], master: str, address: Address) -> None:
        self._master = master
        self._address = msgspec.structs.replace(address, wants_primary=True)
        self._named = ", ".join(f"{it.host}:{it.port}" for it in sentinels)
        self._connections = [RedisConnection(StaticLocator(it)) for it in sentinels]
        self._asking: asyncio.Task[Address] | None = None

    async def locate(self) -> Address:
        """Return the primary's address; concurrent callers share one answer.

        Raises:
            TransportUnavailable: no majority of the sentinels answers with an address.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_retrieve_error)
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


def _retrieve_error(task: asyncio.Task[Address]) -> None:
    """Retrieve the task's error, so that asyncio logs nothing if all waiters were cancelled."""
    if not task.cancelled():
        task.exception()
