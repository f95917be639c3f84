"""Our library of Redis Functions: loaded when needed, and again if the server has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha1, sha256
from importlib.resources import files
from weakref import WeakKeyDictionary

from redis.exceptions import OutOfMemoryError, ResponseError

from transport.errors import ConfigurationError, TransportError, TransportUnavailable
from transport.redis.client.connections import RedisConnections
from transport.redis.client.pipelines import Pipelines
from transport.redis.cluster.cluster import Closing, IsAt
from transport.redis.cluster.primary import ServerPool
from transport.redis.connection.connection import Command, RedisConnection, Reply, ServerChanged
from transport.redis.connection.errors import is_function_missing, translate

__all__ = ["Functions", "library_source", "must_have_functions"]

_FILES = (
    "common",
    "generations",
    "accounts",
    "append",
    "reads",
    "positions",
    "rescue",
)  # each builds on those before it
_LOADS = 3  # the library can be flushed again before the call arrives

_Send = Callable[[Sequence[Command], Sequence[int]], Awaitable[list[Reply]]]
"""Sends some commands again; the second argument has the places that they had among the first."""

# A full server (maxmemory) loads no library, but runs scripts that have the flag allow-oom. So a
# script calls the function there. A function without that flag is refused with the server's own
# error. One script serves all functions: a script takes as much memory as the library, and the
# server keeps it until it ends.
_AS_SCRIPT = """#!lua flags=allow-oom
local PREFIX, NAME, called = '', ARGV[1], nil
local redis = setmetatable({{
  register_function = function(it)
    if it.function_name == NAME then
      called = it.flags[1] and it.callback or function()
        return redis.error_reply("OOM command not allowed when used memory > 'maxmemory'.")
      end
    end
  end,
}}, {{__index = redis}})
{source}
local args = {{}}
for i = 2, #ARGV do
  args[i - 1] = ARGV[i]
end
return called(KEYS, args)
"""


def library_source() -> str:
    """Return the text of the library of this release."""
    folder = files("transport.redis").joinpath("lua")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in _FILES)


class Functions:
    """Calls the functions of ``lua/``.

    The library's name contains a digest of its text, so processes of two releases can share a
    server. A server can lose the library at any time (``FUNCTION FLUSH``, a restart without
    persistence, an empty replica promoted), or have another program's code under its name. A call
    that finds its function missing was not executed, and is repeated once the library is loaded.

    Args:
        connections: The connections to the server.
        source: The library's text; by default that of this release.
    """

    def __init__(self, connections: RedisConnections, source: str | None = None) -> None:
        self._connections = connections
        self._calls = Pipelines(connections)
        source = library_source() if source is None else source
        self.library = f"crossfade_{sha256(source.encode()).hexdigest()[:8]}"
        self._source = source
        self._code = f"#!lua name={self.library}\nlocal PREFIX = '{self.library}_'\n{source}"
        self._loading: WeakKeyDictionary[ServerPool, asyncio.Lock] = WeakKeyDictionary()

    @property
    def database(self) -> int:
        """The number of the Redis database."""
        return self._connections.database

    @property
    def by_slot(self) -> bool:
        """Whether no call may touch two slots of a cluster."""
        return self._connections.by_slot

    @property
    def are_of_several(self) -> bool:
        """Whether the functions are called on several servers, of which some may not answer."""
        return self._connections.cluster is not None

    def command(self, name: str, keys: Sequence[str], *arguments: str | bytes | int) -> Command:
        """Return the command that calls function ``name``."""
        return ("FCALL", f"{self.library}_{name}", len(keys), *keys, *arguments)

    async def exchange(
        self,
        commands: Sequence[Command],
        *,
        closing: Sequence[Command] = (),
        only_at: str = "",
        is_at: IsAt | None = None,
        within: float = 0.0,
    ) -> list[Reply]:
        """Send ``commands`` in one go and return their replies; load the library if it is missing.

        See ``RedisConnection.exchange``.

        Args:
            commands: The commands to send.
            closing: Commands to send after them on the same connection, also if calls are repeated.
                Their replies come last. Ignored in a cluster: see ``spread``.
            only_at: The replication id of the only server to send to, if the server's id is known.
                Ignored in a cluster.
            is_at: In a cluster, tells whether a server is the one to send to.
            within: In a cluster, the seconds after which a server's commands fail, so that it can't
                delay the others' replies; 0: the connection's timeout.

        Raises:
            TransportUnavailable: no connection could be opened, or the library not loaded.
            ServerChanged: the connection leads to another server than ``only_at`` or ``is_at``.
        """
        if self._connections.cluster is not None:
            are_at = [is_at] * len(commands) if is_at else ()
            replies, _ = await self.spread(commands, within=within, are_at=are_at)
            if is_at and any(isinstance(reply, ServerChanged) for reply in replies):
                raise ServerChanged("the log is on another server now")
            return replies

        # Inline, not in a method: every message pays for each frame down to the socket.
        async with self._connections.lend() as connection:
            self._check_place(connection, only_at)
            replies = await connection.exchange([*commands, *closing])

        async def send(some: Sequence[Command], _: Sequence[int]) -> list[Reply]:
            async with self._connections.lend() as connection:
                self._check_place(connection, only_at)
                return await connection.exchange(some)

        return await self._with_library(commands, replies, send, closing)

    def _check_place(self, connection: RedisConnection, only_at: str) -> None:
        """Refuse a connection to another server than the one to send to, if there is one."""
        if only_at and connection.server and connection.server != only_at:
            if connection.server != self._connections.server:
                connection.hang_up()  # it is older than the change
            raise ServerChanged("the log is on another server now")

    async def spread(
        self,
        commands: Sequence[Command],
        *,
        closing: Closing | None = None,
        within: float = 0.0,
        are_at: Sequence[IsAt] = (),
    ) -> tuple[list[Reply], list[Sequence[Reply]]]:
        """Send ``commands`` to the servers of a cluster; see ``Cluster.spread``."""
        cluster = self._connections.cluster
        assert cluster is not None
        full: list[BaseException] = []

        async def load(pools: Sequence[ServerPool]) -> None:
            try:
                await self.load(pools)
            except TransportUnavailable as error:  # the calls report any other error
                if isinstance(error.__cause__, OutOfMemoryError):
                    full.append(error.__cause__)

        replies, closed = await cluster.spread(
            commands, closing=closing, load=load, within=within, are_at=are_at
        )
        if closing is None and any(map(is_function_missing, replies)):  # the server may be full

            async def send(some: Sequence[Command], which: Sequence[int]) -> list[Reply]:
                at = [are_at[i] for i in which] if are_at else ()
                found, _ = await cluster.spread(some, within=within, are_at=at)
                return found

            replies = await self._with_library(commands, replies, send)
        elif full:  # appends: a full server would refuse them as scripts as well
            replies = [full[0] if is_function_missing(it) else it for it in replies]
        return replies, closed

    async def _with_library(
        self,
        commands: Sequence[Command],
        replies: list[Reply],
        send: _Send,
        closing: Sequence[Command] = (),
    ) -> list[Reply]:
        """Load the library, and repeat the calls that found it missing.

        They are sent as they were before: a call that is meant for one server goes to no other one
        that was promoted meanwhile.
        """
        for _ in range(_LOADS):
            missing = [i for i in range(len(commands)) if is_function_missing(replies[i])]
            if not missing:
                break
            calls = [commands[i] for i in missing]
            try:
                await self.load(self._connections.pools_of(calls))
            except TransportUnavailable as error:
                if not isinstance(error.__cause__, OutOfMemoryError):
                    raise
                again = await send(await self._as_scripts([*calls, *closing]), missing)
            else:
                again = await send([*calls, *closing], missing)
            replies[len(commands) :] = again[len(calls) :]
            for i, reply in zip(missing, again, strict=False):
                replies[i] = reply
        return replies

    async def _as_scripts(self, calls: Sequence[Command]) -> list[Command]:
        """Return the calls for a full server without the library: three trips instead of one."""
        script = _AS_SCRIPT.format(source=self._source)
        digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        for pool in self._connections.pools_of([it for it in calls if it[0] == "FCALL"]):
            with suppress(TransportUnavailable):
                await pool.exchange([("SCRIPT", "LOAD", script)])
        return [self._by_script(digest, call) for call in calls]

    def _by_script(self, digest: str, call: Command) -> Command:
        """Return the call of a function through the script: its name is the first argument.

        Any other command is returned as it is.
        """
        if call[0] != "FCALL":
            return call
        name, keys = str(call[1]).removeprefix(f"{self.library}_"), call[3 : 3 + int(call[2])]
        return ("EVALSHA", digest, call[2], *keys, name, *call[3 + len(keys) :])

    async def call(self, name: str, keys: Sequence[str], *arguments: str | bytes | int) -> Reply:
        """Call one function and return its reply; calls of the same moment share a round trip.

        Raises:
            TransportError: the server answered with an error, or not at all.
        """
        commands = [self.command(name, keys, *arguments)]

        async def send(some: Sequence[Command], _: Sequence[int]) -> list[Reply]:
            return await self._connections.exchange(some)

        (reply,) = await self._with_library(commands, await self._calls.exchange(commands), send)
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def load(self, pools: Sequence[ServerPool] = ()) -> None:
        """Load the library into each server that answers and lacks it.

        ``pools``: load it only into these servers.

        Raises:
            TransportUnavailable: a server can't be reached, forbids it, or is full.
            ConfigurationError: a server is too old.
        """
        loads = [self._load_at(pool) for pool in pools or self._connections.answering]
        told = await asyncio.gather(*loads)
        refusals = [error for error in told if error is not None]  # all servers were tried
        full = [it for it in refusals if isinstance(it.__cause__, OutOfMemoryError)]
        if refusals:  # a full server's error first: callers can use a script there
            raise (full or refusals)[0]

    async def _load_at(self, pool: ServerPool) -> TransportError | None:
        async with self._loading.setdefault(pool, asyncio.Lock()):
            try:
                (reply,) = await pool.exchange([("FUNCTION", "LOAD", "REPLACE", self._code)])
                must_have_functions(reply)
                if isinstance(reply, Exception):
                    raise translate(reply)
            except TransportError as error:
                return error
        return None


def must_have_functions(reply: Reply) -> None:
    """Return if ``reply``, of ``FUNCTION LOAD``, is not one of a server without functions.

    Raises:
        ConfigurationError: the server does not know the command.
    """
    if isinstance(reply, ResponseError) and "unknown command" in str(reply):
        raise ConfigurationError(
            "this server has no functions: Redis 7.0 or later, or Valkey, is needed, and a proxy "
            "in front of it has to pass every command on"
        ) from reply
