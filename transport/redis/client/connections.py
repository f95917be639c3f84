"""The pool of connections to Redis; in a cluster, one pool for each primary.

redis-py's client and pool are not used: they retry commands whose reply was lost, which duplicates
appends and skips deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext, SSLError

import msgspec
from redis.exceptions import MovedError

from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis.client.primary_watch import PrimaryWatch
from transport.redis.cluster.cluster import Cluster
from transport.redis.cluster.map import ClusterMap
from transport.redis.cluster.primary import ServerPool
from transport.redis.cluster.slot_map import Place, SlotMap
from transport.redis.cluster.slot_votes import ask_for_slots
from transport.redis.connection.connection import (
    Address,
    Command,
    LeadsToReplica,
    RedisConnection,
    Reply,
    ServerIdentity,
)
from transport.redis.connection.errors import translate
from transport.redis.connection.greeting import Greeting
from transport.redis.connection.locator import Locator, SentinelLocator, StaticLocator, tell
from transport.secret_file import password_of
from transport.settings import TransportSettings
from transport.tls_files import client_context

__all__ = ["RedisConnections", "tls_of"]

_CONNECT_SECONDS = 5.0
_IN_CLUSTER, _NO_CLUSTER = b"cluster_enabled:1", "cluster support disabled"
_ANY_KEY = "msg:any"  # any key that our user may access
_MOST_WAITING = 4096  # connections for blocking reads: one for each stream
_REPLICA_SECONDS = 0.1  # between two attempts to connect to an address that led to a replica
_SENTINEL_SECONDS = 1.0  # the timeout of a sentinel; the majority has to answer within it


class RedisConnections:
    """A pool of at most ``REDIS_POOL_SIZE`` connections, opened when needed.

    In a cluster it sends commands through ``cluster``, which has such a pool for each primary. Then
    ``locator`` and ``most`` (the size) are those of one primary's pool.
    """

    def __init__(
        self, settings: TransportSettings, *, locator: Locator | None = None, most: int = 0
    ) -> None:
        self.cluster: Cluster | None = None
        """The cluster of several shards that ``look_for_cluster`` found; it sends the commands."""
        self.by_slot = False
        """Whether no call may touch two slots; true also in a cluster of one shard."""
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
        """Called with the server's identity after each new connection; not in a cluster."""
        self.on_shard: Callable[[Place, ServerIdentity], None] = lambda _, __: None
        """Called in a cluster with a primary's place and identity after each new connection."""
        self._place = ("", 0)  # of the server of the last connection
        self._replica: tuple[float, LeadsToReplica] | None = None  # the last replica met, and when
        self.tls = tls_of(settings) if settings.redis.tls and locator is None else None
        """The TLS of all connections to the servers in the settings."""
        self._locator = locator or _locator(settings, self.tls)
        self._watch: PrimaryWatch | None = None

    @property
    def sentinels(self) -> SentinelLocator | None:
        """The sentinels that name the primary, if the settings name any."""
        return self._locator if isinstance(self._locator, SentinelLocator) else None

    def watch_primary(self) -> None:
        """From now on, leave a primary that the sentinels no longer name; needs a running loop."""
        if (sentinels := self.sentinels) is not None:
            self._watch = PrimaryWatch(sentinels, self._moved_to)

    @property
    def pools(self) -> Sequence[ServerPool]:
        """One pool for each server: in a cluster for each primary, else only this one."""
        return [self] if self.cluster is None else self.cluster.pools

    @property
    def answering(self) -> Sequence[ServerPool]:
        """The pools of servers that answer."""
        return [self] if self.cluster is None else self.cluster.answering

    def pools_of(self, commands: Sequence[Command]) -> Sequence[ServerPool]:
        """Return the pools of the servers that ``commands`` go to."""
        return [self] if self.cluster is None else self.cluster.pools_of(commands)

    async def look_for_cluster(self) -> None:
        """Learn whether the server belongs to a cluster, and where the slots are.

        If the settings name one server and it has all slots, it is used like a single server: at
        the address in the settings, whatever address it announces, and without further rights.

        Raises:
            TransportUnavailable: none of the servers in the settings can be reached.
            ConfigurationError: the settings name several servers, which are no cluster.
        """
        if self._settings.redis.master is not None or self.cluster is not None:
            return
        seeds = [
            msgspec.structs.replace(it, asks_who=False)
            for it in _addresses(self._settings, self.tls)
        ]
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

        def note_server(identity: ServerIdentity) -> None:
            self._count()
            self.on_shard((address.host, address.port), identity)

        pool.on_server = note_server
        return pool

    def _count(self) -> None:
        """Count as a new connection: the next command may reach another server than before."""
        self.made += 1

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[RedisConnection]:
        """Lend one open connection.

        Raises:
            TransportUnavailable: no connection could be opened, so nothing was sent.
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
        """Refuse at once if the address led to a replica a moment ago.

        Otherwise each call would open a connection to it.

        Raises:
            LeadsToReplica: the address led to a replica within the last ``_REPLICA_SECONDS``.
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

    def _moved_to(self, place: Place) -> None:
        """Close the connections to all other servers, if ``place`` is a new one."""
        if place != self._place:
            self._place = place
            for connection in (*self._idle, *self._lent):
                connection.leave_unless_at(place)

    def _retire(self) -> None:
        """Close every connection made before the failover that one connection has noticed.

        Otherwise each would fail a call before it is replaced. A connection that only reads or
        waits for entries would even stay with a server that gets no more entries.
        """
        for connection in (*self._idle, *self._lent):
            connection.retire()

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send ``commands`` in one go and return their replies.

        See ``RedisConnection.exchange``.

        Raises:
            TransportUnavailable: no connection could be opened, so nothing was sent.
        """
        if self.cluster is not None:
            return await self.cluster.exchange(commands)
        async with self.lend() as connection:
            return await connection.exchange(commands)

    async def call(self, *command: str | bytes | int) -> Reply:
        """Send one command and return its reply.

        Raises:
            TransportError: the server answered with an error, or not at all.
        """
        (reply,) = await self.exchange([command])
        if isinstance(reply, Exception):
            raise translate(reply)
        return reply

    async def set_once(self, key: str, value: str | int) -> bytes:
        """Set ``key`` to ``value`` if it has no value; return its value.

        Nothing is written if it has one, because a full server refuses writes.

        Raises:
            TransportError: the server answered with an error, or not at all.
        """
        known: bytes | None = await self.call("GET", key)
        while known is None:
            await self.call("SET", key, value, "NX")
            known = await self.call("GET", key)
        return known

    async def close(self) -> None:
        """Close every connection that is not in use, and the others when they are returned."""
        self._closed = True
        if self._watch is not None:
            await self._watch.close()
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
    """Return whether the first of ``seeds`` that answers belongs to a cluster.

    Raises:
        TransportUnavailable: none can be reached, or none of several says whether it does.
        ConfigurationError: there are several seeds, and one is not in a cluster.
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

    True also if our user may not ask: then the server refuses keys of other slots (MOVED).
    """
    reply, any_key = await tell(server, ("CLUSTER", "SLOTS"), ("EXISTS", _ANY_KEY))
    if not isinstance(reply, list):
        return True
    if len(SlotMap.read(reply, server.host).places) > 1:
        return False
    return not isinstance(any_key, MovedError)


def _addresses(settings: TransportSettings, tls: SSLContext | None) -> list[Address]:
    """Return the addresses of the servers or sentinels, each with the Redis server's greeting."""
    redis = settings.redis
    password = password_of(redis.password, settings.redis_password_file, "REDIS_PASSWORD_FILE")
    greeting = Greeting(redis.username, password, redis.database or 0)
    return [
        Address(
            host=host,
            port=port,
            tls=tls,
            greeting=greeting,
            timeout=settings.redis_timeout_ms / 1000,
            connect_timeout=_CONNECT_SECONDS,
            asks_who=settings.redis_rescue_seconds > 0,
        )
        for host, port in redis.servers
    ]


def _locator(settings: TransportSettings, tls: SSLContext | None) -> Locator:
    redis, addresses = settings.redis, _addresses(settings, tls)
    if redis.master is None:
        return StaticLocator(addresses[0])
    secret = settings.redis_sentinel_password
    password = password_of(
        secret.get_secret_value() if secret else None,
        settings.redis_sentinel_password_file,
        "REDIS_SENTINEL_PASSWORD_FILE",
    )
    theirs = Greeting(settings.redis_sentinel_username, password)
    sentinels = [
        msgspec.structs.replace(
            address,
            greeting=theirs,
            timeout=_SENTINEL_SECONDS,
            connect_timeout=_SENTINEL_SECONDS,
            asks_who=False,
        )
        for address in addresses
    ]
    return SentinelLocator(sentinels, redis.master, addresses[0])


def tls_of(settings: TransportSettings) -> SSLContext:
    """Return a TLS context with the trusted authorities, and with our certificate if one is set.

    Raises:
        ConfigurationError: a file can't be read, or is no PEM file of the right kind.
    """
    certificate, key = settings.redis_tls_cert_file, settings.redis_tls_key_file

    def show(context: SSLContext) -> None:
        if certificate is None:
            return
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, SSLError) as error:
            named = f"REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE={certificate} and {key}"
            raise ConfigurationError(
                f"{named if key else f'REDIS_TLS_CERT_FILE={certificate}'} can't be used: {error}; "
                "name PEM files that this user may read"
            ) from error

    authorities = settings.redis_tls_ca_file
    return client_context(authorities, (certificate, key), show, field="REDIS_TLS_CA_FILE")
