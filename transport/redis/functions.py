"""Our library of Redis Functions: loaded once, and again whenever the server has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files

from redis.exceptions import ResponseError

from transport.errors import ConfigurationError
from transport.redis.connection import Command, Reply
from transport.redis.connections import RedisConnections
from transport.redis.errors import is_function_missing, translate
from transport.redis.pipeline import Pipeline

__all__ = ["Functions"]

_FILES = (
    "common",
    "accounts",
    "back",
    "append",
    "lease",
    "delivery",
    "members",
)  # as they build on others
_LOADS = 3  # more than one, as it can be flushed again before the call gets there


class Functions:
    """Calls the functions of ``lua/``.

    The library's name carries a digest of its text, so processes of two releases can share a
    server. A server can lose it at any time (``FUNCTION FLUSH``, a restart without persistence, an
    empty replica promoted); a call that finds it missing was not executed, and is made again.
    """

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections
        self._calls = Pipeline(connections)
        folder = files("transport.redis").joinpath("lua")
        source = "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in _FILES)
        self._library = f"crossfade_{sha256(source.encode()).hexdigest()[:8]}"
        self._code = f"#!lua name={self._library}\nlocal PREFIX = '{self._library}_'\n{source}"
        self._loading = asyncio.Lock()

    def command(self, name: str, keys: Sequence[str], *arguments: str | bytes | int) -> Command:
        """Return the command that calls function ``name``."""
        return ("FCALL", f"{self._library}_{name}", len(keys), *keys, *arguments)

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send ``commands`` in one go and return their replies; load the library where it is gone.

        See ``RedisConnection.exchange``.

        Raises:
            TransportUnavailable: no connection could be had, or no library loaded.
        """
        async with self._connections.lend() as connection:
            replies = await connection.exchange(commands)
        return await self._with_library(commands, replies)

    async def _with_library(self, commands: Sequence[Command], replies: list[Reply]) -> list[Reply]:
        """Make the calls again that found no library, once it is loaded."""
        for _ in range(_LOADS):
            missing = [i for i, reply in enumerate(replies) if is_function_missing(reply)]
            if not missing:
                break
            await self.load()
            again = await self._connections.exchange([commands[i] for i in missing])
            for i, reply in zip(missing, again, strict=True):
                replies[i] = reply
        return replies

    async def call(self, name: str, keys: Sequence[str], *arguments: str | bytes | int) -> Reply:
        """Call one function, in a trip with others' calls of this moment, and return its reply.

        Raises:
            TransportError: what the server's error, or its silence, means.
        """
        commands = [self.command(name, keys, *arguments)]
        (reply,) = await self._with_library(commands, await self._calls.exchange(commands))
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def load(self) -> None:
        """Load the library if it is not there.

        Raises:
            TransportUnavailable: the server can't be reached or forbids it.
            ConfigurationError: the server is too old.
        """
        async with self._loading:
            (reply,) = await self._connections.exchange([("FUNCTION", "LOAD", self._code)])
            if isinstance(reply, ResponseError) and "already exists" in str(reply):
                return  # of the same digest, so the same text
            if isinstance(reply, ResponseError) and "unknown command" in str(reply):
                raise ConfigurationError(
                    "this server has no functions: Redis 7.0 or Valkey 8, or later, is needed"
                ) from reply
            if isinstance(reply, Exception):
                raise translate(reply)
