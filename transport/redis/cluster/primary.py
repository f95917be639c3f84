"""One primary of a cluster: its pools of connections, and whether it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from transport.errors import TransportUnavailable
from transport.redis.connection.connection import Address, Command, RedisConnection, Reply

__all__ = ["ClusterPrimary", "MakePool", "ServerPool"]


class ServerPool(Protocol):
    """The connections to one server."""

    server: str
    """The replication id of the server that the last connection was made to."""
    made: int
    """How many connections were ever made."""

    def lend(self) -> AbstractAsyncContextManager[RedisConnection]:
        """Lend one connection."""

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands and return their replies."""

    async def call(self, *command: str | bytes | int) -> Reply:
        """Send one command and return its reply."""

    async def close(self) -> None:
        """Close every connection that is not in use, and the others when they are returned."""

    def hang_up(self) -> None:
        """Close every connection, also those in use."""


MakePool = Callable[[Address, bool], ServerPool]
"""Makes the pool of an address; the second argument says whether it is for blocking reads."""


class ClusterPrimary:
    """One primary. Blocking reads have a pool of their own, with one connection for each stream."""

    def __init__(self, address: Address, make: MakePool) -> None:
        self.address = address
        self.pool = make(address, False)
        self.waits = make(address, True)
        self.is_away = False
        self.why = ""
        """The error of the last attempt to reach it, while it is away."""

    def missed(self, error: Exception) -> None:
        """Refuse its commands from now on, because of ``error``."""
        if not self.is_away:  # else the error may be our own refusal
            self.why = str(error)
        self.is_away = True

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[RedisConnection]:
        """Lend a connection.

        Raises:
            TransportUnavailable: no connection can be opened, or the server is away.
        """
        self._refuse_while_away()
        async with self.pool.lend() as connection:
            self._refuse_while_away()  # it may have been found to hang during the wait
            yield connection

    def _refuse_while_away(self) -> None:
        if self.is_away:
            raise TransportUnavailable(
                f"{self} of the cluster does not answer: see that it runs, that this address, "
                "which it announces, can be reached from here (cluster-announce-ip), and that it "
                f"has the same users as the others ({self.why})"
            )

    async def close(self) -> None:
        """Close all connections, also those of blocking reads."""
        self.waits.hang_up()
        await self.waits.close()
        await self.pool.close()

    def __str__(self) -> str:
        return f"{self.address.host}:{self.address.port}"
