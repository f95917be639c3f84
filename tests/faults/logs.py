"""``FaultyLog``, the interface of brokers in fault tests, and its implementation for Redis.

Scenarios use only ``FaultyLog``, so each of them runs on every transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

from redis.asyncio import Redis

from compose.local.server import LocalServer
from compose.local.valkey import ValkeyServer
from tests.support.fault_proxy import FaultProxy
from transport.settings import TransportSettings

__all__ = ["FaultyLog", "RedisLog", "settings_of"]


class FaultyLog(Protocol):
    """A broker of the test's own, running and empty when the test begins."""

    name: str
    """Its name in ``TRANSPORT``."""
    server: LocalServer
    """The server, which tests stop, kill, suspend, resume and restart."""
    markers: Mapping[str, bytes]
    """Bytes by which a proxy recognizes each ``append``, ``read`` and ``show`` (of positions)."""

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process of ours to it."""

    def environment_through(self, host: str, port: int) -> dict[str, str]:
        """Return the settings that lead there through a proxy at this address."""

    def proxy(self) -> AbstractAsyncContextManager[FaultProxy]:
        """Put a proxy between it and whoever comes by that way."""

    async def wipe(self) -> None:
        """Lose everything: messages, groups, memory of keys."""


class RedisLog:
    """A Redis or Valkey that the test starts."""

    name = "redis"
    markers: ClassVar[Mapping[str, bytes]] = {
        "append": b"_append",
        "read": b"_range",
        "show": b"_show",
    }

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process of ours to it."""
        return self.environment_through(self.server.host, self.server.port)

    def environment_through(self, host: str, port: int) -> dict[str, str]:
        """Return the settings that lead there through a proxy at this address."""
        return {"TRANSPORT": self.name, "REDIS_HOST": host, "REDIS_PORT": str(port)}

    def proxy(self) -> FaultProxy:
        """Put a proxy between it and whoever comes by that way."""
        return FaultProxy(self.server.host, self.server.port)

    async def drop_connections(self) -> None:
        """Close every client's connection from the server's side."""
        async with Redis(host=self.server.host, port=self.server.port) as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def wipe(self) -> None:
        """Lose everything: messages, groups, memory of keys."""
        async with Redis(host=self.server.host, port=self.server.port) as client:
            await client.flushall()


def settings_of(log: FaultyLog) -> TransportSettings:
    """Return the settings for a transport in the test's own process."""
    return TransportSettings(**{k.lower(): v for k, v in log.environment().items()})  # type: ignore[arg-type]
