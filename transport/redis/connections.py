"""The pool of connections.

redis-py supplies the connection itself (handshake, TLS, parsing); its client and its pool are not
used: their retries resend commands whose reply was lost, which doubles appends and skips
deliveries, and they cost more per command than the rest of an append.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from transport.redis.errors import translate
from transport.redis.line import Command, Line, Reply
from transport.settings import TransportSettings

__all__ = ["Connections"]

_READ_SIZE = 1 << 18  # bytes per read: a large batch arrives in few
_CONNECT_SECONDS = 5.0


class Connections:
    """At most ``REDIS_POOL_SIZE`` connections, opened when needed."""

    def __init__(self, settings: TransportSettings) -> None:
        self._timeout = settings.redis_timeout_ms / 1000
        self._idle: list[Line] = []
        self._slots = asyncio.Semaphore(settings.redis_pool_size)
        self._kind = SSLConnection if settings.redis_tls else Connection
        password = settings.redis_password
        self._options: dict[str, Any] = {
            "host": settings.redis_host,
            "port": settings.redis_port,
            "db": settings.redis_stream_db,
            "username": settings.redis_username,
            "password": password.get_secret_value() if password else None,
            "protocol": 2,  # a quarter faster to parse than RESP3
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,  # one deadline for a trip instead
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_read_size": _READ_SIZE,
            "driver_info": None,
        }

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """Lend one open connection.

        Raises:
            TransportUnavailable: none could be had, so nothing was sent.
        """
        async with self._slots:
            line = self._idle.pop() if self._idle else self._new_line()
            try:
                await line.open()
                yield line
            finally:
                self._idle.append(line)

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send ``commands`` in one go and return their replies; see :meth:`Line.exchange`.

        Raises:
            TransportUnavailable: no connection could be had, so nothing was sent.
        """
        async with self.line() as line:
            return await line.exchange(commands)

    async def call(self, *command: str | bytes | int) -> Reply:
        """Send one command and return its reply.

        Raises:
            TransportError: what the server's error, or its silence, means.
        """
        (reply,) = await self.exchange([command])
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def close(self) -> None:
        """Close every connection that is not in use."""
        while self._idle:
            await self._idle.pop().close()

    def _new_line(self) -> Line:
        return Line(
            self._kind(**self._options), timeout=self._timeout, connect_timeout=_CONNECT_SECONDS
        )
