"""One connection to Redis: sends commands and reads their replies in one trip; never resends.

It is opened when it is needed, and knows which server it leads to. ``wire`` has the bytes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Any, NamedTuple, Protocol, cast

import hiredis
import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from transport.addresses import connected_socket
from transport.errors import TransportUnavailable
from transport.redis.connection.errors import is_refusal, translate
from transport.redis.connection.greeting import Greeting
from transport.redis.connection.wire import CLOSED, RedisWire

__all__ = [
    "Address",
    "Command",
    "LeadsToReplica",
    "RedisConnection",
    "Reply",
    "ServerChanged",
    "ServerIdentity",
]

Command = tuple[str | bytes | int, ...]
Reply = Any
"""A reply of the server: bytes, int, list, None, or the exception redis-py makes of an error."""

_FRESH_SECONDS = 0.02
# A younger connection is kept whatever its server answers. Otherwise a server that takes no writes
# for minutes would cost a new connection for every command.
_SECOND_LOOK_SECONDS = 0.5
_SPEAKS_TLS = "if it speaks TLS, set REDIS_TLS=true"
_SPEAKS_NONE = "over TLS; if it speaks none, set REDIS_TLS=false"
_ASKS_US = (  # with TLS 1.3 it says so only after the handshake, and not every server does
    "if it asks clients for a certificate, check REDIS_TLS_CERT_FILE, and when that ends "
    "(crossfade doctor)"
)
_ROLE: Command = ("ROLE",)
_WHO: Command = ("INFO", "replication", "server")
_REPLICATION_ID = re.compile(rb"^master_replid:(\w+)", re.MULTILINE)
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_NEVER_REPLICA = re.compile(rb"^master_replid2:0+\r?$", re.MULTILINE)
_FORMER_ID = re.compile(rb"^master_replid2:(?!0+\r?$)(\w+)", re.MULTILINE)
_REPLICA = re.compile(rb"^role:slave", re.MULTILINE)
_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)  # its stub knows tuples of one


class Address(msgspec.Struct, frozen=True):
    """The address of a server, and how to open a connection to it. Times are in seconds."""

    host: str
    port: int
    tls: SSLContext | None
    greeting: Greeting
    timeout: float
    connect_timeout: float
    wants_primary: bool = False
    """Whether to refuse a server whose ``ROLE`` is not master."""
    asks_who: bool = False
    """Whether to ask for the server's replication id."""

    def __repr__(self) -> str:
        """Leave the greeting out: it holds the password."""
        return f"Address({self.host}:{self.port})"


class _Locator(Protocol):
    async def locate(self) -> Address: ...


class ServerIdentity(NamedTuple):
    """The identity of a server, asked when a connection is opened; unknown ids are empty."""

    server: str = ""
    """The replication id."""
    process: str = ""
    """The run id; empty if the server was promoted from a replica."""
    former: str = ""
    """The replication id of the primary that the server was a replica of."""


class ServerChanged(TransportUnavailable):
    """The connection leads to another server than before; nothing was sent."""


class LeadsToReplica(TransportUnavailable):
    """The address leads to a replica: a failover is under way, or the address was not updated."""


class RedisConnection:
    """A connection that is opened when needed, and used by one task at a time.

    ``locator`` is asked for the address each time it is opened.
    """

    def __init__(self, locator: _Locator) -> None:
        self.place = ("", 0)
        """Host and port of the server of the last connection."""
        self.identity = ServerIdentity()
        """The identity of that server when the connection was opened."""
        self._locator = locator
        self._timeout = 0.0
        self._wire: RedisWire | None = None
        self._is_blocking = False
        self._is_retired = False

    @property
    def server(self) -> str:
        """The replication id of the server of the last connection."""
        return self.identity.server

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as this process knows."""
        return self._wire is not None and self._wire.lost is None

    @property
    def is_misplaced(self) -> bool:
        """Whether the server refused a command because it can't take writes: it became a replica.

        Reconnecting leads to the new primary if the address is a proxy, a service name or a
        floating IP: these move at a failover, but existing sessions stay with the old server.
        """
        wire = self._wire
        return wire is not None and wire.errors.has_wrong_server and _is_old(wire)

    async def open(self) -> bool:
        """Connect, unless the connection is open; return whether a new connection was made.

        Raises:
            TransportUnavailable: no connection could be made.
        """
        if self._wire is not None:
            # Give the loop a turn to notice that the server has closed the connection. Commands
            # sent after that would be lost, and we would not know whether they were executed. A
            # connection that was heard a moment ago needs no such turn, which on a busy loop costs
            # as much as the trip.
            if asyncio.get_running_loop().time() - self._wire.heard > _FRESH_SECONDS:
                await asyncio.sleep(0)
            if self.is_open:  # and was not retired in that turn
                return False
            self.hang_up()
        address = await self._locator.locate()
        self.place, self._timeout = (address.host, address.port), address.timeout
        try:
            async with asyncio.timeout(address.connect_timeout):
                _, self._wire = await asyncio.get_running_loop().create_connection(
                    RedisWire,
                    sock=await connected_socket(address.host, address.port),
                    ssl=address.tls,
                    server_hostname=address.host if address.tls else None,
                )
                await self._begin(address)
        except TimeoutError as error:
            self.hang_up()
            over = f" {_SPEAKS_NONE}" if address.tls else ""
            late = TimeoutError(f"{address.host}:{address.port} takes no connection{over}")
            raise translate(late) from error
        except OSError as error:
            self.hang_up()
            if address.tls and isinstance(error, ConnectionResetError):
                # A server that speaks none waits for more, maybe for a shorter time than we do.
                ended = f"{address.host}:{address.port} ended the connection {_SPEAKS_NONE}"
                raise translate(RedisConnectionError(ended)) from error
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
        if not (commands := [*address.greeting.commands(), *role, *who]):
            return
        for command, reply in zip(commands, await self.exchange(commands), strict=True):
            if command == _WHO and (isinstance(reply, bytes) or is_refusal(reply)):
                if isinstance(reply, bytes):
                    self.identity = _identity(reply, address)
                continue
            if isinstance(reply, NoPermissionError) and command == _ROLE:
                continue  # then a replica shows when it refuses the first write
            if isinstance(reply, Exception) and str(reply) == CLOSED:
                hint = _ASKS_US if address.tls else _SPEAKS_TLS
                raise translate(RedisConnectionError(f"{CLOSED} at our first words; {hint}"))
            if isinstance(reply, Exception):
                raise translate(reply)
            if command == _ROLE and reply[0] != b"master":
                raise LeadsToReplica(
                    f"the sentinels name {address.host}:{address.port} as the primary, which is a "
                    "replica: a failover is under way"
                )

    async def exchange(self, commands: Sequence[Command], *, block: float = 0.0) -> list[Reply]:
        """Send ``commands`` in one go and return their replies, one each.

        If a reply did not arrive, redis-py's ConnectionError or TimeoutError stands in its place:
        the command may have been executed.

        Args:
            commands: The commands to send.
            block: Seconds that a blocking command may wait, added to the timeout.
        """
        wire = self._wire
        if wire is None or wire.lost is not None:
            return [wire.lost if wire else RedisConnectionError("hung up")] * len(commands)
        seconds = self._timeout + block
        self._is_blocking = block > 0
        wire.errors.has_wrong_server = False
        try:
            replies = await wire.trip([_pack(command) for command in commands], seconds)
        except BaseException:
            # Cancelled. Close, so that late replies are not taken for those to the next command.
            self.hang_up()
            raise
        if self._is_retired or wire.errors.is_last:
            self.hang_up()
        if len(replies) < len(commands):
            self.hang_up()
            replies += [wire.lost] * (len(commands) - len(replies))
        return replies

    def hang_up(self) -> None:
        """Close at once; ``open`` connects again. A trip under way ends with the replies so far."""
        self._is_retired = False
        if self._wire is not None:
            self._wire.hang_up()
            self._wire = None

    def leave_unless_at(self, place: tuple[str, int]) -> None:
        """Close at once, if connected to another server than the one at ``place``.

        The reply to a call under way is not waited for. The server may not know that it is no
        longer the primary, and what it acknowledges now is lost. The call's outcome is unknown.
        """
        if self.place != place:
            self.hang_up()

    def retire(self) -> None:
        """Close, unless the connection is so young that it was opened after the failover.

        A trip under way gets its replies first, unless it is a blocking read.
        """
        wire = self._wire
        if wire is None or not _is_old(wire):
            return
        if wire.is_busy and not self._is_blocking:
            self._is_retired = True
        else:
            self.hang_up()


def _identity(told: bytes, address: Address) -> ServerIdentity:
    """Return the identity of a primary.

    Raises:
        LeadsToReplica: the server is a replica. A replica has its primary's replication id. After
            its promotion it would take appends under that id, as if nothing had been lost.
    """
    if _REPLICA.search(told):
        raise LeadsToReplica(
            f"{address.host}:{address.port} is a read-only replica: name the primary, or wait "
            "until it is promoted"
        )
    found, former = _REPLICATION_ID.search(told), _FORMER_ID.search(told)
    run = _RUN_ID.search(told) if _NEVER_REPLICA.search(told) else None
    return ServerIdentity(*(it[1].decode() if it else "" for it in (found, run, former)))


def _is_old(wire: RedisWire) -> bool:
    return asyncio.get_running_loop().time() - wire.opened > _SECOND_LOOK_SECONDS
