"""The ``Transport`` on Redis Streams. Requires Redis 7.0 or later, or Valkey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self

from transport.contract import (
    CONTRACT,
    DLQ_GROUP,
    WORKER_GROUP,
    DeadLetter,
    Envelope,
    Features,
    GroupStanding,
    Holding,
    LogLocation,
    Outcome,
    Progress,
    Record,
    Remembered,
    Topic,
)
from transport.durability import Durability
from transport.errors import PartlyUnavailable, TransportError, Unwritable
from transport.features.watched_settings import WatchedSettings
from transport.first_start import FirstStart
from transport.log_name import LogName
from transport.redis import reading
from transport.redis.administration.alterations import Alterations
from transport.redis.administration.durability import durability_and_partitions
from transport.redis.administration.first_start import first_start
from transport.redis.administration.groups import forget_group
from transport.redis.administration.lacking_rights import lacking_rights
from transport.redis.administration.opening import identity, open_logs
from transport.redis.administration.removal import RedisLogRemoval
from transport.redis.administration.replicas import asking_for_replicas, lacking_replicas
from transport.redis.administration.server_facts import server_facts
from transport.redis.append.confirmation import Confirmation
from transport.redis.append.dead_letters import RedisDeadLetters
from transport.redis.append.own_appends import OwnAppends
from transport.redis.append.publish import Publisher
from transport.redis.client.connections import RedisConnections
from transport.redis.client.functions import Functions
from transport.redis.cluster.cluster import Cluster
from transport.redis.cluster.slot_map import Place
from transport.redis.connection.connection import ServerIdentity
from transport.redis.connection.errors import translate
from transport.redis.delivery.append_notifier import AppendNotifier
from transport.redis.delivery.published_positions import PublishedPositions
from transport.redis.delivery.slot_notifiers import SlotNotifiers
from transport.redis.delivery.waiting_reads import WaitingReads
from transport.redis.entry_ids import entry_id, id_before, id_key
from transport.redis.keys import TopicKeys, dead_letter_log, messages_log
from transport.redis.records import time_in
from transport.redis.rescue.calls import of_last_day, total_of
from transport.redis.rescue.last_seen import LastSeen
from transport.redis.rescue.rescue import Rescue
from transport.redis.rescue.shard_rescues import ShardRescues
from transport.rights import LackingRights
from transport.server_facts import ServerFacts
from transport.settings import TransportSettings

__all__ = ["RedisTransport"]

_NAME = LogName("redis")
_PROBE_SECONDS = 0.5  # the time of each server of a cluster, so that one can't delay the report


class RedisTransport:
    """See ``transport.contract.Transport``; one instance per process and event loop.

    The server's configuration decides how durable an acknowledged append is. With ``appendonly
    yes`` and ``appendfsync always`` it survives a power cut; with ``everysec`` the last second may
    be lost. Replicas are asynchronous: ``min-replicas-to-write`` reduces the loss in a failover,
    but can't exclude it.
    """

    contract = CONTRACT
    system = "redis"
    features = Features(remembers=True, durable=True, shared=True)

    def __init__(self, settings: TransportSettings, name: LogName = _NAME) -> None:
        self.name = str(name)
        self.partitions = settings.stream_partitions
        self._settings = settings
        self._messages = messages_log(self.partitions, name.suffix("@"))
        self._dead = dead_letter_log(name.suffix("@"))
        redis = settings.redis
        host, port = redis.servers[0]
        self.location = LogLocation(
            redis.master or host,
            None if redis.master else port,
            self._messages.name,
            self._dead.name,
        )
        self._connections = RedisConnections(settings)
        self._watched = WatchedSettings("Redis", Alterations(self._connections).look)
        self._functions = Functions(self._connections)
        seconds = settings.idempotency_ttl_seconds
        self._last_seen = {
            (Topic.MESSAGES, WORKER_GROUP): LastSeen(self.partitions),
            (Topic.DEAD_LETTERS, DLQ_GROUP): LastSeen(1),
        }
        self._servers: dict[Place | None, str] = {}  # replication ids
        self._changes = 0  # of servers
        self._checked: dict[str, int] = {}  # by stream: the changes before its last check
        self._own_appends = OwnAppends(lambda: self._connections.made)
        self._rescue = Rescue(
            self._functions,
            self._messages,
            seconds=settings.redis_rescue_seconds,
        )
        self._rescues = ShardRescues(
            self._functions,
            self._messages,
            cluster=lambda: self._connections.cluster,
            seconds=settings.redis_rescue_seconds,
        )
        self._publisher = Publisher(
            self._functions,
            self._messages,
            group=WORKER_GROUP,
            seconds=seconds,
            last_seen=self._last_seen[Topic.MESSAGES, WORKER_GROUP],
            own_appends=self._own_appends,
            confirmation=Confirmation(settings, self._messages),
            rescue=self._rescue,
        )
        self.on_rescued: Callable[[int], None] = lambda _: None
        """See ``transport.features.rescuing.Rescuing``."""
        for rescue in (self._rescue, self._rescues):
            rescue.begin(self._append_again, self._note_rescued)
        self._connections.on_server = self._note_server
        self._connections.on_shard = self._note_shard
        self._dead_letters = RedisDeadLetters(
            self._functions,
            self._dead,
            seconds=seconds,
            rescue_seconds=settings.redis_rescue_seconds,
            confirmation=Confirmation(settings, self._dead),
        )
        self._waiting_reads = WaitingReads(self._new_notifier, self._messages, self._own_appends)
        self._positions = PublishedPositions(
            self._functions,
            self._last_seen,
            retention_seconds=settings.stream_retention_seconds,
            retention_records=settings.stream_retention_records,
        )
        self._removal = RedisLogRemoval(
            self._connections, [(self._messages, WORKER_GROUP), (self._dead, DLQ_GROUP)]
        )

    @classmethod
    def from_settings(cls, settings: TransportSettings, name: LogName = _NAME) -> Self:
        """Return the log ``name`` with its ``settings``, not yet connected."""
        return cls(settings, name)

    @property
    def where(self) -> str:
        """See ``transport.existing.Existing``."""
        redis = self._settings.redis
        at = ", ".join(f"{host}:{port}" for host, port in redis.servers)
        if redis.master:
            at = f"{at} (sentinels of {redis.master})"
        return f"the Redis at {at}, database {redis.database}, streams {self._messages.name}:*,"

    async def exists(self) -> bool:
        """See ``transport.existing.Existing``."""
        connections = RedisConnections(self._settings)
        try:
            await connections.look_for_cluster()
            keys = [self._messages.count, *self._messages.streams, *self._dead.streams]
            # One command for each key: they are in several slots of a cluster.
            for reply in await connections.exchange([("EXISTS", key) for key in keys]):
                if isinstance(reply, Exception):
                    raise translate(reply)
                if reply:
                    return True
            return False
        finally:
            await connections.close()

    async def server_facts(self) -> ServerFacts:
        """See ``transport.server_facts.TellsServerFacts``."""
        connections = RedisConnections(self._settings)
        try:
            await connections.look_for_cluster()
            return await server_facts(connections, self._settings)
        finally:
            await connections.close()

    async def first_start(self) -> FirstStart:
        """See ``transport.first_start.ForeseesFirstStart``."""
        connections = RedisConnections(self._settings)
        try:
            await connections.look_for_cluster()
            return await first_start(connections, self._settings, self._messages.name)
        finally:
            await connections.close()

    async def __aenter__(self) -> Self:
        try:
            await open_logs(
                self._connections,
                self._functions,
                [(self._messages, WORKER_GROUP), (self._dead, DLQ_GROUP)],
            )
            self._connections.watch_primary()
            if self._connections.by_slot:
                is_cluster = self._connections.cluster is not None
                self._publisher.keep_slots_apart(self._rescues if is_cluster else None)
        except BaseException:
            await self._connections.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._waiting_reads.close()
        await self._dead_letters.recent.close()
        await self._rescue.close()
        await self._rescues.close()
        await self._connections.close()

    @property
    def server_of(self) -> Callable[[int], str] | None:
        """See ``transport.features.several_servers``."""
        cluster, streams = self._connections.cluster, self._messages.streams
        return None if cluster is None else lambda p: cluster.place_of(streams[p])

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append envelopes; see the contract."""
        return await self._publisher.publish(envelopes, remember=remember)

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """Look up remembered message ids; see the contract."""
        return await self._publisher.recall(message_ids)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Append dead letters; see the contract."""
        await self._dead_letters.append(letters)

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,
    ) -> Sequence[Record]:
        """Return records; see the contract."""
        log = self._log(topic)
        read = partial(self._read, log, partition, after, limit)
        if wait > 0:
            return await self._waiting_reads.read(
                log, partition, read, after=after, limit=limit, seconds=wait
            )
        if log is self._messages and (kept := self._own_appends.take(partition, after, limit)):
            return kept
        return await read()

    async def _read(
        self, log: TopicKeys, partition: int, after: str | None, limit: int
    ) -> Sequence[Record]:
        found = await reading.read(self._functions, log, partition, after, limit)
        stream, changes = log.streams[partition], self._changes
        if after is not None and self._checked.get(stream, 0) != changes:
            self._checked[stream] = changes
            await reading.check_position(self._functions, log, partition, after, WORKER_GROUP)
        last = found[-1] if found else None
        # An id that begins with the time of the append is mostly another program's, and not dense.
        if last and log is self._messages and time_in(last.offset) != last.appended_at:
            self._last_seen[Topic.MESSAGES, WORKER_GROUP].note_seen(partition, last.offset)
        return found

    async def surplus(self) -> Sequence[int]:
        """Return no partition: Redis has those that were made; see the contract."""
        return ()

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        """Show positions as a group's; see the contract."""
        await self._positions.publish(self._log(topic), positions, group=group)

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """Return the last records before an entry id; see the contract."""
        stop = None if before is None else entry_id(before)
        return await reading.read_back(self._functions, self._log(topic), partition, stop, limit)

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """Return whether nothing after an entry id was trimmed; see the contract."""
        return await reading.reaches(self._functions, self._log(topic), partition, after)

    def offset_before(self, offset: str) -> str | None:
        """Return the entry id before one; see the contract."""
        return id_before(offset)

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """Return the entry id before a time; see the contract."""
        return await reading.since(self._functions, self._log(topic), partition, time)

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """Return a group's progress; see the contract."""
        last_seen = self._last_seen.get((topic, group))
        return await reading.progress(self._functions, self._log(topic), group, last_seen)

    def known_ends(self) -> dict[int, str]:
        """Return the last known entry ids; see ``transport.features.known_ends.KnowsEnds``."""
        last_seen = self._last_seen[Topic.MESSAGES, WORKER_GROUP]
        ends = {partition: last_seen.last(partition) for partition in range(self.partitions)}
        return {partition: end for partition, end in ends.items() if end is not None}

    async def look_for(self, ends: Mapping[int, str]) -> None:
        """Look for records that others know; see ``transport.features.known_ends.KnowsEnds``."""
        last_seen = self._last_seen[Topic.MESSAGES, WORKER_GROUP]
        await reading.look_for(self._functions, self._messages, WORKER_GROUP, last_seen, ends)

    def sort_key(self, offset: str) -> bytes:
        """Return a key that orders entry ids; see the contract."""
        return id_key(offset)

    async def identity(self) -> str:
        """Return the log's UUID, and set it if there is none; see the contract."""
        return await identity(self._connections, self._messages)

    async def forget_group(self, group: str) -> None:
        """Forget a group; see the contract."""
        await forget_group(self._functions, (self._messages, self._dead), group)
        for (_, name), last_seen in self._last_seen.items():
            if name == group:
                last_seen.forget_settled()

    async def groups(self) -> Sequence[GroupStanding]:
        """Return every group; see the contract."""
        return await self._removal.groups()

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """Remove the log's keys; see the contract."""
        return await self._removal.remove(dry_run=dry_run)

    async def durability(self) -> Durability:
        """Return the faults that an append survives; unknown where ``CONFIG`` is forbidden."""
        return await durability_and_partitions(self._connections, self._settings)

    async def alterations(self) -> Sequence[str]:
        """See ``transport.features.alterations.TellsAlterations``."""
        return await self._watched.now()

    def server_warnings(self) -> Sequence[str] | None:
        """See ``transport.features.server_warnings.WarnsOfServers``."""
        sentinels = self._connections.sentinels
        return None if sentinels is None else sentinels.warnings

    async def lacking_rights(self) -> LackingRights:
        """See ``transport.rights.TellsRights``."""
        return await lacking_rights(self._connections.pools, self._messages.name)

    async def ping(self) -> None:
        """Return if the server takes a write; see the contract.

        PING is no test: a replica answers it, and so does a server whose memory or disk is full.
        """
        if self._connections.cluster is not None:
            await self._ping_shards(self._connections.cluster)
            return
        await self._connections.call(*self._messages.probing)
        self._dead_letters.recent.age()
        await self._rescue.wait(within=0.0)
        self._rescue.recent.age()
        if wanted := self._settings.redis_wait_replicas:
            told = await self._connections.exchange(asking_for_replicas(wanted))
            if lacking := lacking_replicas(told, wanted):
                raise lacking

    async def rescued(self) -> int:
        """Return how many records were appended again in the last day.

        See ``transport.features.rescuing.Rescuing``.
        """
        if self._connections.cluster is not None:
            return await self._rescues.rescued(self._connections.cluster)
        return total_of(await self._connections.call(*of_last_day(self._messages.rescues)))

    async def _ping_shards(self, cluster: Cluster) -> None:
        probes = [self._messages.probing_at(p) for p in range(self.partitions)]
        wanted = self._settings.redis_wait_replicas
        asking = asking_for_replicas(wanted)
        replies, told = await cluster.spread(
            probes, closing=lambda _: asking, in_turn=False, within=_PROBE_SECONDS
        )
        errors: dict[int, TransportError] = {}
        for partition, reply in enumerate(replies):
            if isinstance(reply, Exception):
                errors[partition] = translate(reply)
            elif error := await self._rescues.age(partition) or lacking_replicas(
                told[partition], wanted
            ):
                errors[partition] = error
        if not errors:
            self._dead_letters.recent.age()
            return
        # Name one whose partitions can't be read either, if there is any.
        error = min(errors.values(), key=lambda it: isinstance(it, Unwritable))
        if len(errors) == self.partitions:
            raise error
        some = ", ".join(map(str, errors))
        places = ", ".join(sorted({cluster.place_of(self._messages.streams[p]) for p in errors}))
        raise PartlyUnavailable(
            f"partitions {some} take no appends, the others do: {places} of the cluster: {error}"
        ) from error

    async def _append_again(
        self, envelopes: Sequence[Envelope], remember: bool, server: str
    ) -> Sequence[Outcome]:
        return await self._publisher.publish(envelopes, remember=remember, rescued_at=server)

    def _note_change(self, identity: ServerIdentity, place: Place | None = None) -> None:
        """Note that another server is at a place; it may have lost records."""
        before, server = self._servers.get(place), identity.server
        # An unknown one may be another each time: the user may not ask for it.
        self._changes += before is not None and (before != server or not server)
        self._servers[place] = server

    def _note_server(self, identity: ServerIdentity) -> None:
        self._note_change(identity)
        self._rescue.note_server(identity)
        self._dead_letters.recent.note_server(identity.server)

    def _note_shard(self, place: Place, identity: ServerIdentity) -> None:
        self._note_change(identity, place)
        self._rescues.note_server(place, identity)
        cluster = self._connections.cluster
        if cluster is not None and cluster.is_on(self._dead.streams[0], place):
            self._dead_letters.recent.note_server(identity.server)

    def _note_rescued(self, count: int) -> None:
        self.on_rescued(count)

    def _new_notifier(self) -> AppendNotifier | SlotNotifiers:
        cluster, answered = self._connections.cluster, self._own_appends.answered
        if cluster is None:
            return AppendNotifier(self._connections, answered)
        return SlotNotifiers(cluster, answered)

    def _log(self, topic: Topic) -> TopicKeys:
        return self._messages if topic is Topic.MESSAGES else self._dead
