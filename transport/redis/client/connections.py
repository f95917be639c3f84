"""The pool of connections; in a cluster, a pool for each primary.

redis-py's client and pool are not used: their retries resend commands whose reply was lost, which
doubles appends and skips deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext, SSLError, create_default_context

import msgspec
from redis.exceptions import MovedError

from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis.cluster.cluster import Cluster
from transport.redis.cluster.map import ClusterMap
from transport.redis.cluster.primary import ServerPool
from transport.redis.cluster.slot_map import Place, SlotMap
from transport.redis.cluster.slot_votes import ask_for_slots, tell
from transport.redis.connection.connection import (
    Address,
    Command,
    LeadsToReplica,
    RedisConnection,
    Reply,
    ServerIdentity,
)
from transport.redis.connection.errors import translate
from transport.redis.connection.locator import Locator, SentinelLocator, StaticLocator
from transport.settings import TransportSettings

__all__ = ["RedisConnections"]

_CONNECT_SECONDS = 5.0
_IN_CLUSTER, _NO_CLUSTER = b"cluster_enabled:1", "cluster support disabled"
_ANY_KEY = "msg:any"  # of those that its user may ask for
_MOST_WAITING = 4096  # one for each stream that somebody waits for
_REPLICA_SECONDS = 0.1  # between two looks whether an address leads to a primary again
_SENTINEL_SECONDS = 1.0  # most have to answer within that, and may be asked again


class RedisConnections:
    """At most ``REDIS_POOL_SIZE`` connections, opened when needed; to each primary of a cluster.

    ``locator`` and ``most`` are for the pool of one primary.
    """

    def __init__(
        self, settings: TransportSettings, *, locator: Locator | None = None, most: int = 0
    ) -> None:
        self.cluster: Cluster | None = None
        """Where commands go, once ``look_for_cluster`` found one of several shards."""
        self.by_slot = False
        """Whether no call may touch two slots: also in a cluster of one shard."""
        self.made = 0
        """How many connections were ever made."""
        self._idle: list[RedisConnection] = []
        self._lent: set[RedisConnection] = set()
        self._closed = False
        self._settings = settings
        self.database = settings.redis_stream_db
        self._slots = asyncio.Semaphore(most or settings.redis_pool_size)
        self.server = ""
        """The replication id of the server that the last connection was made to."""
        self.on_server: Callable[[ServerIdentity], None] = lambda _: None
        """Called with who the server is, after each; of a cluster, for no single server."""
        self.on_shard: Callable[[Place, ServerIdentity], None] = lambda _, __: None
        """The same for the primaries of a cluster, with where each is."""
        self._place = ("", 0)  # where the last connection was made to
        self._replica: tuple[float, LeadsToReplica] | None = None  # when one was met last
        self._locator = locator or _locator(settings)

    @property
    def pools(self) -> Sequence[ServerPool]:
        """The connections to each server: itself, unless it is a cluster."""
        return [self] if self.cluster is None else self.cluster.pools

    @property
    def answering(self) -> Sequence[ServerPool]:
        """Those that answer."""
        return [self] if self.cluster is None else self.cluster.answering

    def pools_of(self, commands: Sequence[Command]) -> Sequence[ServerPool]:
        """Those that ``commands`` go to."""
        return [self] if self.cluster is None else self.cluster.pools_of(commands)

    async def look_for_cluster(self) -> None:
        """Learn whether the server is one of a cluster, and where its slots are.

        A server that is named alone and has all slots is used as any other: at the address that is
        named, whatever it calls itself, and with the rights that it takes.

        Raises:
            TransportUnavailable: no server that is named can be reached.
            ConfigurationError: several are named that are no cluster.
        """
        if self._settings.redis.master is not None or self.cluster is not None:
            return
        seeds = [msgspec.structs.replace(it, asks_who=False) for it in _addresses(self._settings)]
        self.by_slot = await _is_cluster(seeds)
        if not self.by_slot or (len(seeds) == 1 and await _has_all_slots(seeds[0])):
            return
        slots = await ask_for_slots(seeds)
        if slots is None:
            raise TransportUnavailable(
                "this Redis Cluster has given its slots to no server yet (CLUSTER ADDSLOTSRANGE)"
            )
        known = ClusterMap(seeds, slots, make=self._make, changed=self._count)
        self.cluster = Cluster(known)

    def _make(self, address: Address, is_for_waiting: bool) -> RedisConnections:
        if is_for_waiting:
            locator = StaticLocator(address)
            return RedisConnections(self._settings, locator=locator, most=_MOST_WAITING)
        asks_who = self._settings.redis_rescue_seconds > 0
        locator = StaticLocator(msgspec.structs.replace(address, asks_who=asks_who))
        pool = RedisConnections(self._settings, locator=locator)

        def met(identity: ServerIdentity) -> None:
            self._count()
            self.on_shard((address.host, address.port), identity)

        pool.on_server = met
        return pool

    def _count(self) -> None:
        """Have it known that what is asked next may be another server."""
        self.made += 1

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[RedisConnection]:
        """Lend one open connection.

        Raises:
            TransportUnavailable: none could be had, so nothing was sent.
        """
        async with self._slots:
            connection = self._idle.pop() if self._idle else RedisConnection(self._locator)
            self._lent.add(connection)
            try:
                if not connection.is_open:
                    self._refuse_replica()
                if await self._open(connection):
                    self.made += 1
                    self._moved_to(connection.place)
                    self.server = connection.server
                    self.on_server(connection.identity)
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

    def _refuse_replica(self) -> None:
        """Refuse at once where a replica was met just now, or each call would make a connection.

        Raises:
            LeadsToReplica: as then.
        """
        if self._replica is not None:
            met, error = self._replica
            if asyncio.get_running_loop().time() - met < _REPLICA_SECONDS:
                raise LeadsToReplica(str(error))

    async def _open(self, connection: RedisConnection) -> bool:
        try:
            return await connection.open()
        except LeadsToReplica as error:
            self._replica = asyncio.get_running_loop().time(), error
            raise

    def _moved_to(self, place: tuple[str, int]) -> None:
        """Leave every other server, where the locator names another than before."""
        if place != self._place:
            self._place = place
            for connection in (*self._idle, *self._lent):
                connection.leave_unless_at(place)

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
        if self.cluster is not None:
            return await self.cluster.exchange(commands, most=most)
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
        """Set ``key`` to ``value`` if it is not there; return its value.

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
        self._locator.close()
        if self.cluster is not None:
            await self.cluster.close()

    def hang_up(self) -> None:
        """Close every connection, also those in use."""
        for connection in (*self._idle, *self._lent):
            connection.hang_up()


async def _is_cluster(seeds: Sequence[Address]) -> bool:
    """Return whether the first of ``seeds`` that answers is a cluster's.

    Raises:
        TransportUnavailable: none can be reached, or tells.
        ConfigurationError: it is none, and several are named.
    """
    refused: Exception | None = None
    for seed in seeds:
        try:
            reply, info = await tell(seed, ("CLUSTER", "SLOTS"), ("INFO", "cluster"))
        except TransportUnavailable as error:
            refused = error
            continue
        if isinstance(reply, list) or (isinstance(info, bytes) and _IN_CLUSTER in info):
            return True
        if len(seeds) == 1:
            return False
        if _NO_CLUSTER in str(reply):
            raise ConfigurationError(
                f"REDIS_URL names several servers, and {seed.host}:{seed.port} is not one of a "
                "cluster: name one server, or the sentinels (redis+sentinel://host1,host2/name)"
            )
        refused = reply
    assert refused is not None
    raise translate(refused)


async def _has_all_slots(server: Address) -> bool:
    """Return whether a cluster has one shard, and ``server`` is its primary.

    Also where it can't be known, since we may not ask: then what it has not, it tells (MOVED).
    """
    reply, any_key = await tell(server, ("CLUSTER", "SLOTS"), ("EXISTS", _ANY_KEY))
    if not isinstance(reply, list):
        return True
    if len(SlotMap.read(reply, server.host).places) > 1:
        return False
    return not isinstance(any_key, MovedError)


def _addresses(settings: TransportSettings) -> list[Address]:
    """Return the servers, or the sentinels, each with how to begin with the server."""
    redis = settings.redis
    tls = _tls(settings) if redis.tls else None
    greeting = _auth(redis.username, redis.password)
    if redis.database:
        greeting.append(("SELECT", redis.database))
    return [
        Address(
            host=host,
            port=port,
            tls=tls,
            greeting=tuple(greeting),
            timeout=settings.redis_timeout_ms / 1000,
            connect_timeout=_CONNECT_SECONDS,
            asks_who=settings.redis_rescue_seconds > 0,
        )
        for host, port in redis.servers
    ]


def _locator(settings: TransportSettings) -> Locator:
    redis, addresses = settings.redis, _addresses(settings)
    if redis.master is None:
        return StaticLocator(addresses[0])
    password = settings.redis_sentinel_password
    theirs = _auth(
        settings.redis_sentinel_username, password.get_secret_value() if password else None
    )
    sentinels = [
        msgspec.structs.replace(
            address,
            greeting=tuple(theirs),
            timeout=_SENTINEL_SECONDS,
            connect_timeout=_SENTINEL_SECONDS,
            asks_who=False,
        )
        for address in addresses
    ]
    return SentinelLocator(sentinels, redis.master, addresses[0])


def _auth(username: str | None, password: str | None) -> list[Command]:
    if username:  # a user may have no password (nopass), and is not the default user then either
        return [("AUTH", username, password or "")]
    return [("AUTH", password)] if password is not None else []


def _tls(settings: TransportSettings) -> SSLContext:
    """Return the trusted authorities, and our certificate if one is set.

    Raises:
        ConfigurationError: a file can't be read, or is no PEM file of that kind.
    """
    field, path = "REDIS_TLS_CA_FILE", settings.redis_tls_ca_file
    try:
        context = create_default_context(cafile=path)
        if settings.redis_tls_cert_file:
            field, path = "REDIS_TLS_CERT_FILE", settings.redis_tls_cert_file
            key = settings.redis_tls_key_file
            if key:
                field, path = f"{field} and REDIS_TLS_KEY_FILE", f"{path} and {key}"
            context.load_cert_chain(settings.redis_tls_cert_file, key)
    except (OSError, SSLError) as error:
        raise ConfigurationError(
            f"{field}={path} can't be used: {error}; name PEM files that this user may read"
        ) from error
    return context
