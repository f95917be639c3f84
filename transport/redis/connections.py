"""The pool of connections.

redis-py's client and pool are not used: their retries resend commands whose reply was lost, which
doubles appends and skips deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ssl import create_default_context

from transport.redis.connection import Address, Command, RedisConnection, Reply
from transport.redis.errors import translate
from transport.settings import TransportSettings

__all__ = ["RedisConnections"]

_CONNECT_SECONDS = 5.0


class RedisConnections:
    """At most ``REDIS_POOL_SIZE`` connections, opened when needed."""

    def __init__(self, settings: TransportSettings) -> None:
        self.made = 0
        """How many connections were ever made."""
        self._idle: list[RedisConnection] = []
        self._lent: set[RedisConnection] = set()
        self._closed = False
        self._slots = asyncio.Semaphore(settings.redis_pool_size)
        password = settings.redis_password
        greeting: list[Command] = []
        if password is not None:
            user = (settings.redis_username,) if settings.redis_username else ()
            greeting.append(("AUTH", *user, password.get_secret_value()))
        if settings.redis_stream_db:
            greeting.append(("SELECT", settings.redis_stream_db))
        self._address = Address(
            host=settings.redis_host,
            port=settings.redis_port,
            tls=create_default_context() if settings.redis_tls else None,
            greeting=tuple(greeting),
            timeout=settings.redis_timeout_ms / 1000,
            connect_timeout=_CONNECT_SECONDS,
        )

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[RedisConnection]:
        """Lend one open connection.

        Raises:
            TransportUnavailable: none could be had, so nothing was sent.
        """
        async with self._slots:
            connection = self._idle.pop() if self._idle else RedisConnection(self._address)
            self._lent.add(connection)
            try:
                if await connection.open():
                    self.made += 1
                yield connection
            finally:
                self._lent.discard(connection)
                if connection.is_misplaced:
                    connection.hang_up()
                    self._retire()
                if self._closed:
                    connection.hang_up()
                else:
                    self._idle.append(connection)

    def _retire(self) -> None:
        """Close every connection that is as old as one whose server is no longer the primary.

        Each would otherwise fail a call before it is replaced, and one that only reads or waits
        for entries would stay with a server that gets none.
        """
        for connection in (*self._idle, *self._lent):
            connection.retire()

    async def exchange(self, commands: Sequence[Command], *, most: int = 0) -> list[Reply]:
        """Send ``commands`` in one go and return their replies.

        See ``RedisConnection.exchange``.

        Raises:
            TransportUnavailable: no connection could be had, so nothing was sent.
        """
        async with self.lend() as connection:
            return await connection.exchange(commands, most=most)

    async def call(self, *command: str | bytes | int) -> Reply:
        """Send one command and return its reply.

        Raises:
            TransportError: what the server's error, or its silence, means.
        """
        (reply,) = await self.exchange([command])
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def set_once(self, key: str, value: str | int) -> bytes:
        """Return what ``key`` holds; that is ``value`` if it held nothing.

        Nothing is written where it holds something: a full server refuses that.

        Raises:
            TransportError: what the server's error, or its silence, means.
        """
        known: bytes | None = await self.call("GET", key)
        while known is None:
            await self.call("SET", key, value, "NX")
            known = await self.call("GET", key)
        return known

    async def close(self) -> None:
        """Close every connection that is not in use, and the others when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().hang_up()
