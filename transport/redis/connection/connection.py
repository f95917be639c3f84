"""One connection to Redis: send commands, read their replies, one trip, nothing sent twice.

By hand on hiredis, because of what it costs: redis-py's connection awaits each reply on its own.
Here the replies to a whole trip wake their reader once, which takes less than half the CPU time
(measured with 5 replies, which a read has, and with 17, as many as a publish). Errors are still
redis-py's, made by its parser.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Any, NamedTuple, Protocol, cast

import hiredis
import msgspec
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoPermissionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from transport.addresses import connected_socket
from transport.errors import TransportUnavailable
from transport.redis.connection.errors import is_refusal, is_wrong_server, translate

__all__ = [
    "Address",
    "Command",
    "LeadsToReplica",
    "RedisConnection",
    "Reply",
    "ReplyTooLargeError",
    "ServerChanged",
    "ServerIdentity",
]

Command = tuple[str | bytes | int, ...]
Reply = Any
"""A reply of the server: bytes, int, list, None, or the exception redis-py makes of an error."""

_FRESH_SECONDS = 0.02
# A younger connection is kept whatever its server answers: a server that stays unfit for minutes
# must not cost a new connection for every command.
_SECOND_LOOK_SECONDS = 0.5
_CLOSED = "the server closed the connection"
_ROLE: Command = ("ROLE",)
_WHO: Command = ("INFO", "replication", "server")
_REPLICATION_ID = re.compile(rb"^master_replid:(\w+)", re.MULTILINE)
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_NEVER_REPLICA = re.compile(rb"^master_replid2:0+\r?$", re.MULTILINE)
_FORMER_ID = re.compile(rb"^master_replid2:(?!0+\r?$)(\w+)", re.MULTILINE)
_REPLICA = re.compile(rb"^role:slave", re.MULTILINE)
_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)  # its stub knows tuples of one
_error = cast("Callable[[str], Exception]", DefaultParser.parse_error)


class ReplyTooLargeError(RedisTimeoutError):
    """A reply was given up because of its size: ask for less at once."""


class Address(msgspec.Struct, frozen=True):
    """Where the server is, and how to begin with it. Times are in seconds."""

    host: str
    port: int
    tls: SSLContext | None
    greeting: tuple[Command, ...]
    """Sent first on each connection (AUTH, SELECT); an error among the replies ends it."""
    timeout: float
    connect_timeout: float
    wants_primary: bool = False
    """Whether to refuse a server whose ``ROLE`` is another."""
    asks_who: bool = False
    """Whether to ask for the server's replication id."""

    def __repr__(self) -> str:
        """Leave the greeting out: it holds the password."""
        return f"Address({self.host}:{self.port})"


class _Locator(Protocol):
    async def locate(self) -> Address: ...


class ServerIdentity(NamedTuple):
    """A server's identity when it was connected to; a text is empty where it was not told."""

    server: str = ""
    """Its replication id."""
    process: str = ""
    """Its run id; empty where it was promoted from a replica."""
    former: str = ""
    """The replication id of the primary that it was a replica of."""


class ServerChanged(TransportUnavailable):
    """A connection was made to another server than before; nothing was sent."""


class LeadsToReplica(TransportUnavailable):
    """The address leads to a replica: a failover is under way, or it was not moved since."""


class RedisConnection:
    """A connection that is made when needed, used by one task at a time.

    ``locator`` is asked where to, each time.
    """

    def __init__(self, locator: _Locator) -> None:
        self.place = ("", 0)
        """Host and port of the server that it was connected to last."""
        self.identity = ServerIdentity()
        """That server's, then."""
        self._locator = locator
        self._timeout = 0.0
        self._wire: _Wire | None = None
        self._is_blocking = False
        self._is_retired = False

    @property
    def server(self) -> str:
        """The replication id of the server that it was connected to last."""
        return self.identity.server

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as it can tell."""
        return self._wire is not None and self._wire.lost is None

    @property
    def is_misplaced(self) -> bool:
        """Whether its server refused as one that can't take writes (it became a replica).

        Connecting again leads to the new primary where the address is that of a proxy, a service
        name or a floating IP, which move at a failover and leave old sessions where they were.
        """
        wire = self._wire
        return wire is not None and wire.errors.has_wrong_server and _is_old(wire)

    async def open(self) -> bool:
        """Connect, if it is not, or if the server hung up since the last trip; return if it did.

        Raises:
            TransportUnavailable: no connection could be made.
        """
        if self._wire is not None:
            # A turn of the loop, in which a close that has come meanwhile is noticed: what is sent
            # after it would be neither written nor known not to be. A wire that spoke a moment ago
            # needs none: on a busy loop that turn costs as much as the trip.
            if asyncio.get_running_loop().time() - self._wire.heard > _FRESH_SECONDS:
                await asyncio.sleep(0)
            if self.is_open:  # and not retired in that turn
                return False
            self.hang_up()
        address = await self._locator.locate()
        self.place, self._timeout = (address.host, address.port), address.timeout
        try:
            async with asyncio.timeout(address.connect_timeout):
                _, self._wire = await asyncio.get_running_loop().create_connection(
                    _Wire,
                    sock=await connected_socket(address.host, address.port),
                    ssl=address.tls,
                    server_hostname=address.host if address.tls else None,
                )
                await self._begin(address)
        except TimeoutError as error:
            self.hang_up()
            over = " over TLS; if it speaks none, set REDIS_TLS=false" if address.tls else ""
            late = TimeoutError(f"{address.host}:{address.port} takes no connection{over}")
            raise translate(late) from error
        except OSError as error:
            self.hang_up()
            error.filename = f"{address.host}:{address.port}"  # its text says where
            raise translate(error) from error
        except BaseException:
            self.hang_up()
            raise
        return True

    async def _begin(self, address: Address) -> None:
        role = [_ROLE] if address.wants_primary else []
        who = [_WHO] if address.asks_who else []
        self.identity = ServerIdentity()
        if not (commands := [*address.greeting, *role, *who]):
            return
        for command, reply in zip(commands, await self.exchange(commands), strict=True):
            if command == _WHO and (isinstance(reply, bytes) or is_refusal(reply)):
                if isinstance(reply, bytes):
                    self.identity = _identity(reply, address)
                continue
            if isinstance(reply, NoPermissionError) and command == _ROLE:
                continue  # then its first refusal of a write tells
            if address.tls is None and isinstance(reply, Exception) and str(reply) == _CLOSED:
                told = f"{_CLOSED} at our first words; if it speaks TLS, set REDIS_TLS=true"
                raise translate(RedisConnectionError(told))
            if isinstance(reply, Exception):
                raise translate(reply)
            if command == _ROLE and reply[0] != b"master":
                raise LeadsToReplica(
                    f"the sentinels name {address.host}:{address.port} as the primary, which is a "
                    "replica: a failover is under way"
                )

    async def exchange(
        self, commands: Sequence[Command], *, block: float = 0.0, most: int = 0
    ) -> list[Reply]:
        """Send ``commands`` in one go and return their replies, one each.

        ``block`` is how many seconds a command may rightly keep the server waiting, and ``most``
        how many bytes of replies to take (0: any number). A command whose reply did not arrive has
        redis-py's ConnectionError or TimeoutError in its place: it may have been executed.
        """
        wire = self._wire
        if wire is None or wire.lost is not None:
            return [wire.lost if wire else RedisConnectionError("hung up")] * len(commands)
        seconds = self._timeout + block
        self._is_blocking = block > 0
        wire.errors.has_wrong_server = False
        try:
            replies = await wire.trip([_pack(command) for command in commands], seconds, most)
        except BaseException:
            # Cancelled: the replies that are still to come must not answer the next command.
            self.hang_up()
            raise
        if self._is_retired or wire.errors.is_last:
            self.hang_up()
        if len(replies) < len(commands):
            self.hang_up()
            replies += [wire.lost] * (len(commands) - len(replies))
        return replies

    def hang_up(self) -> None:
        """Close at once; ``open`` connects anew. A trip under way ends with what it has."""
        self._is_retired = False
        if self._wire is not None:
            self._wire.hang_up()
            self._wire = None

    def leave_unless_at(self, place: tuple[str, int]) -> None:
        """Close it, as ``retire`` does, if it is connected to another server."""
        if self._wire is not None and self.place != place:
            self._leave(self._wire)

    def retire(self) -> None:
        """Close it if it was opened before the failover that another connection met.

        A trip under way gets its replies first, unless it only waits for something to happen.
        """
        wire = self._wire
        if wire is not None and _is_old(wire):
            self._leave(wire)

    def _leave(self, wire: _Wire) -> None:
        if wire.is_busy and not self._is_blocking:
            self._is_retired = True
        else:
            self.hang_up()


def _identity(told: bytes, address: Address) -> ServerIdentity:
    """Return who a primary is.

    Raises:
        LeadsToReplica: it is a replica. That has its primary's id, and would take appends
            under it once it is promoted, as if nothing had been lost.
    """
    if _REPLICA.search(told):
        raise LeadsToReplica(
            f"{address.host}:{address.port} is a read-only replica: name the primary, or wait "
            "until it is promoted"
        )
    found, former = _REPLICATION_ID.search(told), _FORMER_ID.search(told)
    run = _RUN_ID.search(told) if _NEVER_REPLICA.search(told) else None
    return ServerIdentity(*(it[1].decode() if it else "" for it in (found, run, former)))


def _is_old(wire: _Wire) -> bool:
    return asyncio.get_running_loop().time() - wire.opened > _SECOND_LOOK_SECONDS


class _Errors:
    """Makes redis-py's exceptions of error replies, and notes those of a server to leave.

    The parser calls it for each error, also for one inside the reply to a transaction, and for
    nothing else: replies that are no errors cost nothing more. (Not a method of the wire: the
    parser would keep its wire alive, and the wire its parser.)
    """

    def __init__(self) -> None:
        self.has_wrong_server = False
        self.is_last = False
        """Whether the server hangs up after what it said."""

    def __call__(self, text: str) -> Exception:
        error = _error(text)
        if is_wrong_server(error):
            self.has_wrong_server = True
        if text.startswith("ERR Protocol error"):
            self.is_last = True
        return error


class _Wire(asyncio.Protocol):
    """One socket's life."""

    def __init__(self) -> None:
        self.lost: Exception | None = None
        self.heard = 0.0
        self.opened = asyncio.get_running_loop().time()
        self.errors = _Errors()
        self._reader = hiredis.Reader(replyError=self.errors, protocolError=InvalidResponse)
        self._replies: list[Reply] = []
        self._wanted = 0
        self._received = 0
        self._most = 0
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a trip is under way."""
        return self._done is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def trip(self, packed: list[bytes], seconds: float, most: int) -> list[Reply]:
        """Send, and return the replies; fewer than were asked for if ``lost`` is set."""
        assert self._transport is not None
        assert self._done is None, "one trip at a time"
        loop = asyncio.get_running_loop()
        self._wanted = len(packed)
        self._done = loop.create_future()
        self._transport.write(b"".join(packed))
        self._received, self._most = 0, most
        self._timer = loop.call_later(seconds, self._expire, seconds, 0)
        try:
            await self._done
        finally:
            self._timer.cancel()
            self._done = None
        replies, self._replies = self._replies, []
        return replies

    def data_received(self, data: bytes) -> None:
        """Collect replies; the last one that is wanted wakes the trip."""
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        except InvalidResponse as error:
            self._lose(error)
            return
        if self._done is None:
            if replies:
                self._lose(RedisConnectionError("the server spoke before it was asked"))
        elif len(replies) >= self._wanted and not self._done.done():
            self.heard = asyncio.get_running_loop().time()
            self._done.set_result(None)
        else:
            self._received += len(data)
            if self._received > self._most > 0:
                self._lose(ReplyTooLargeError(f"a reply of more than {self._most} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the server, or we, hung up."""
        self._lose(RedisConnectionError(str(exc) if exc else _CLOSED))

    def hang_up(self) -> None:
        """Close without waiting for unsent bytes."""
        self._lose(RedisConnectionError("hung up"))

    def _expire(self, seconds: float, received: int) -> None:
        if self._received > received:  # a large reply is on its way
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._expire, seconds, self._received)
            return
        self._lose(RedisTimeoutError(f"no reply within {seconds:g} s"))

    def _lose(self, why: Exception) -> None:
        if self.lost is None:
            self.lost = why
        if self._transport is not None:
            self._transport.abort()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
