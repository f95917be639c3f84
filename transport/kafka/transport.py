"""The ``Transport`` on Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

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
from transport.errors import ConfigurationError, TransportError, Unreadable
from transport.features.watched_settings import WatchedSettings
from transport.first_start import FirstStart
from transport.kafka.administration.durability import durability
from transport.kafka.administration.first_start import first_start
from transport.kafka.administration.removal import KafkaLogRemoval
from transport.kafka.administration.rights import lacking_rights, require_write
from transport.kafka.administration.server_facts import server_facts
from transport.kafka.administration.topics import (
    TopicSpec,
    check_replicas,
    differences,
    ensure_topics,
    topic_specs,
)
from transport.kafka.appender import Appender
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.connection.closing import discard_admin
from transport.kafka.connection.connection import Connector
from transport.kafka.group.context import GroupContext
from transport.kafka.group.gaps import Gaps
from transport.kafka.group.groups import Groups
from transport.kafka.group.publishing import publish_positions
from transport.kafka.letters import KafkaDeadLetters
from transport.kafka.log import TopicLayout
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.loss.losses import TopicLosses
from transport.kafka.loss.mark import Mark
from transport.kafka.loss.tails import Tails
from transport.kafka.loss.topic_ids import TopicIds
from transport.kafka.progress import progress_of
from transport.kafka.read_ahead.own_appends import appended_runs
from transport.kafka.read_ahead.read_ahead import ReadAhead
from transport.kafka.read_ahead.read_log import ReadLog
from transport.kafka.reader import KafkaReader
from transport.kafka.records import outgoing_envelope, record_of
from transport.log_name import LogName
from transport.numeric_offsets import offset_number, offset_sort_key
from transport.rights import LackingRights
from transport.server_facts import ServerFacts
from transport.settings import TransportSettings
from transport.sizes import of_one_read

__all__ = ["KafkaTransport"]

log = logging.getLogger(__name__)

_SAFETY_BYTES = 4096  # room for the bytes that Kafka adds to a single record in a batch
_TOPICS_WITHIN = 30.0
_NAME = LogName("kafka")


class KafkaTransport:
    """See ``transport.contract.Transport``."""

    contract = CONTRACT
    system = "kafka"
    features = Features(remembers=False, durable=True, shared=True)

    def __init__(self, settings: TransportSettings, name: LogName = _NAME) -> None:
        self.name = str(name)
        self._settings = settings
        self.partitions = settings.stream_partitions
        self._bootstrap = settings.kafka_bootstrap_servers
        self._suffix = name.suffix(".")
        self._specs = topic_specs(settings, self._suffix)
        self.location = _location(self._bootstrap, self._specs)
        self._logs = {
            t: TopicLayout(t, spec.name, spec.partitions) for t, spec in self._specs.items()
        }
        self._connector = Connector(settings)
        timeout = self._connector.timeout
        self._admin: ClientPool[AIOKafkaAdminClient] = ClientPool(
            self._connector.admin, discard_admin, timeout=timeout
        )
        self._watched = WatchedSettings("Kafka's topics", self._differences)
        self._groups = Groups(self._admin)
        self._ids = TopicIds(self._admin, within=timeout / 2)
        self._gaps = Gaps()
        self._losses: dict[tuple[Topic, str], TopicLosses] = defaultdict(TopicLosses)
        every = [at for source in self._logs.values() for at in source.all()]
        self._reader = KafkaReader(self._connector, every)
        self._epochs = LeaderEpochs(self._admin)
        self._tails = {
            topic: Tails(source.name, self._epochs) for topic, source in self._logs.items()
        }
        self._reads = ReadLog()
        self._read_ahead = ReadAhead(
            self._connector,
            list(self._logs.values()),
            self._reader,
            epochs=self._epochs,
            reads=self._reads,
            known_epoch=self._published_epoch,
            on_unreadable=self._look_for_topics,
        )
        limits = {
            spec.name: int(spec.config["max.message.bytes"]) - _SAFETY_BYTES
            for spec in self._specs.values()
        }
        self._appender = Appender(self._connector, limits, self._look_for_topics)
        names = {topic: spec.name for topic, spec in self._specs.items()}
        self._letters = KafkaDeadLetters(
            self._appender, names, most=limits[names[Topic.DEAD_LETTERS]]
        )
        self._group_prefix = settings.kafka_group_prefix or ""
        ours = {
            Topic.MESSAGES: self._group_name(WORKER_GROUP),
            Topic.DEAD_LETTERS: self._group_name(DLQ_GROUP),
        }
        self._removal = KafkaLogRemoval(self._admin, self._groups, self._reader, self._logs, ours)
        self._repair: asyncio.Task[None] | None = None
        self._counted: dict[str, int] = {}
        self._topics_wrong = ""

    @classmethod
    def from_settings(cls, settings: TransportSettings, name: LogName = _NAME) -> Self:
        """Return the log ``name`` with its ``settings``, not yet connected."""
        return cls(settings, name)

    @property
    def where(self) -> str:
        """See ``transport.existing.Existing``."""
        topic = self._specs[Topic.MESSAGES].name
        return f"the Kafka at {self._bootstrap}, topic {topic},"

    @property
    def on_throttled(self) -> Callable[[float], None]:
        """See ``transport.features.throttling.Throttling``."""
        return self._connector.throttled.on_throttled

    @on_throttled.setter
    def on_throttled(self, called: Callable[[float], None]) -> None:
        self._connector.throttled.on_throttled = called

    def throttled_lately(self) -> float:
        """See ``transport.features.throttling.Throttling``."""
        return self._connector.throttled.lately()

    async def server_facts(self) -> ServerFacts:
        """See ``transport.server_facts.TellsServerFacts``."""
        try:
            return await server_facts(self._admin, self._connector, self._settings)
        finally:
            await self._admin.close()

    async def exists(self) -> bool:
        """See ``transport.existing.Existing``."""
        topic = self._specs[Topic.MESSAGES].name
        try:
            return topic in await self._admin.ask(lambda admin: admin.list_topics())
        finally:
            await self._admin.close()

    async def first_start(self) -> FirstStart:
        """See ``transport.first_start.ForeseesFirstStart``."""
        groups = [self._group_name(group) for group in (WORKER_GROUP, DLQ_GROUP)]
        try:
            return await first_start(self._admin, list(self._specs.values()), groups)
        finally:
            await self._admin.close()

    async def __aenter__(self) -> Self:
        try:
            await self._ensure_topics([])
            await self._appender.start()
        except BaseException:
            await self._admin.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._repair is not None:
            self._repair.cancel()
            await asyncio.wait([self._repair])
        await self._appender.close()
        await self._read_ahead.close()
        await self._reader.close()
        await self._admin.close()

    async def publish(
        self,
        envelopes: Sequence[Envelope],
        *,
        remember: bool = True,  # noqa: ARG002 - Kafka keeps no memory of ids; PostgreSQL decides
    ) -> Sequence[Outcome]:
        """See ``transport.contract.Transport.publish``."""
        messages = self._logs[Topic.MESSAGES]
        records = [(envelope.partition, outgoing_envelope(envelope)) for envelope in envelopes]
        outcomes = await self._appender.append_timed(messages.name, records)
        for partition, run in appended_runs(envelopes, outcomes, self._is_followed):
            self._read_ahead.hand_over(messages.at(partition), run)
        return [outcome for outcome, _ in outcomes]

    def _is_followed(self, partition: int) -> bool:
        return self._read_ahead.is_following(self._logs[Topic.MESSAGES].at(partition))

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """See ``transport.contract.Transport.recall``."""
        return [None] * len(message_ids)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """See ``transport.contract.Transport.dead_letter``."""
        await self._letters.append(letters)

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,
    ) -> Sequence[Record]:
        """See ``transport.contract.Transport.read``."""
        start = 0 if after is None else int(after) + 1
        at = self._at(topic, partition)
        return of_one_read(await self._read_ahead.read(at, start, limit, wait=wait))

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """See ``transport.contract.Transport.read_back``."""
        stop = None if before is None else offset_number(before)
        at = self._at(topic, partition)
        found = await self._reader.read_back(at, stop, limit)
        return of_one_read([record_of(topic, raw) for raw in found], last=True)

    def _at(self, topic: Topic, partition: int) -> TopicPartition:
        """Return the partition, which may have been added to the topic, so that it can be read."""
        at = self._logs[topic].at(partition)
        self._reader.include([at])
        return at

    def offset_before(self, offset: str) -> str | None:
        """See ``transport.contract.Transport.offset_before``."""
        number = offset_number(offset)
        return str(number - 1) if number else None

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """See ``transport.contract.Transport.reaches``."""
        at = self._at(topic, partition)
        begin = (await self._reader.begins([at]))[at]
        return begin <= (0 if after is None else offset_number(after) + 1)

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """See ``transport.contract.Transport.offset_before_time``."""
        at = self._at(topic, partition)
        return self.offset_before(str(await self._reader.at_time(at, time)))

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """See ``transport.contract.Transport.progress``."""
        return await progress_of(self._context(topic, group), self._gaps)

    async def surplus(self) -> Sequence[int]:
        """See ``transport.contract.Transport.surplus``."""
        topic = await self._ids.describe(self._logs[Topic.MESSAGES].name)
        return [partition for partition in topic.partitions if partition >= self.partitions]

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        """See ``transport.contract.Transport.publish_positions``."""
        through = {partition: offset_number(offset) for partition, offset in positions.items()}
        if through:
            await publish_positions(self._context(topic, group), through)

    def sort_key(self, offset: str) -> bytes:
        """See ``transport.contract.Transport.sort_key``."""
        return offset_sort_key(offset)

    async def identity(self) -> str:
        """Return the id of the messages' topic; see the contract."""
        return await self._ids.now(self._logs[Topic.MESSAGES].name)

    async def forget_group(self, group: str) -> None:
        """See ``transport.contract.Transport.forget_group``."""
        await self._groups.forget(self._group_name(group))
        for topic in Topic:
            self._losses.pop((topic, group), None)

    async def groups(self) -> Sequence[GroupStanding]:
        """See ``transport.contract.Transport.groups``."""
        return await self._removal.groups()

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """See ``transport.contract.Transport.remove``."""
        found = await self._removal.holdings()
        if not dry_run:
            await self._removal.refuse_members()
            # Close first: a client that asks for a topic may make the broker create it again.
            await self._appender.close()
            await self._read_ahead.close()
            await self._reader.close()
            await self._removal.remove()
        return found

    async def durability(self) -> Durability:
        """See ``transport.contract.Transport.durability``."""
        return await durability(self._admin, self._logs[Topic.MESSAGES].name)

    async def alterations(self) -> Sequence[str]:
        """See ``transport.features.alterations.TellsAlterations``."""
        return await self._watched.now()

    async def lacking_rights(self) -> LackingRights | None:
        """See ``transport.rights.TellsRights``."""
        topics = [spec.name for spec in self._specs.values()]
        groups = [self._group_name(group) for group in (WORKER_GROUP, DLQ_GROUP)]
        return await self._admin.ask(lambda admin: lacking_rights(admin, topics, groups))

    async def ping(self) -> None:
        """See ``transport.contract.Transport.ping``.

        It also raises, last of all, if a partition that this process follows can't be read.
        """
        self._appender.check()
        specs = list(self._specs.values())
        await self._admin.ask(lambda admin: check_replicas(admin, specs))
        messages = self._logs[Topic.MESSAGES].name
        if self._appender.is_forbidden(messages):
            # Ask for the right: without traffic, no append would show that we have it again.
            await self._admin.ask(lambda admin: require_write(admin, messages))
        if fault := self._read_ahead.fault():
            raise Unreadable(f"It takes appends, and can't be read: {fault}")

    def _group_name(self, group: str) -> str:
        """Return a group's name in Kafka.

        A group belongs to the whole cluster: two logs must not share one.
        """
        return f"{self._group_prefix}{group}{self._suffix}"

    def _context(self, topic: Topic, group: str) -> GroupContext:
        return GroupContext(
            group=self._group_name(group),
            source=self._logs[topic],
            reader=self._reader,
            groups=self._groups,
            ids=self._ids,
            losses=self._losses[topic, group],
            tails=self._tails[topic],
            epochs=self._epochs,
            reads=self._reads,
        )

    async def _published_epoch(self, at: TopicPartition) -> int | None:
        """Return the leader epoch in the mark of a partition's published position, if known.

        Nothing but a repeated read depends on it, so no read waits for a group that can't be asked.
        """
        is_messages = at.topic == self._logs[Topic.MESSAGES].name
        group = self._group_name(WORKER_GROUP if is_messages else DLQ_GROUP)
        try:
            topic_id = await self._ids.now(at.topic)
            found = await self._groups.committed(group, at.topic, [at.partition])
        except TransportError:
            return None
        mark = found[at.partition].mark if found else Mark()
        return mark.seen.leader if mark.seen and mark.topic_id == topic_id else None

    async def _differences(self) -> Sequence[str]:
        specs = list(self._specs.values())
        found = await self._admin.ask(lambda admin: differences(admin, specs, self._counted))
        if not found:
            self._appender.make_full_batches()
        return found

    async def _ensure_topics(self, created: list[str]) -> None:
        specs = list(self._specs.values())
        await self._admin.ask(
            lambda admin: ensure_topics(admin, specs, created, self._counted), within=_TOPICS_WITHIN
        )

    def _look_for_topics(self) -> None:
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._make_topics())

    async def _make_topics(self) -> None:
        """Create topics again that were deleted. Until then appends are refused."""
        created: list[str] = []  # also by an attempt that failed afterwards
        try:
            await self._ensure_topics(created)
        except TransportError as error:
            # Log only errors of configuration. This also runs in an outage, which others report.
            if isinstance(error, ConfigurationError) and str(error) != self._topics_wrong:
                self._topics_wrong = str(error)
                log.error(  # noqa: TRY400
                    "Kafka's topics are not as configured, or can't be made; will retry",
                    extra={"error": str(error)},
                )
        else:
            self._topics_wrong = ""
        if created:
            log.error(
                "Topics were missing: created again, empty. Run `crossfade audit`",
                extra={"topics": created},
            )


def _location(servers: str, specs: Mapping[Topic, TopicSpec]) -> LogLocation:
    """Return the location: the first broker of ``servers``, and both topics."""
    first = servers.partition(",")[0].strip()
    host, _, port = first.rpartition(":")
    address, number = (host, int(port)) if host and port.isdigit() else (first, None)
    messages, letters = specs[Topic.MESSAGES].name, specs[Topic.DEAD_LETTERS].name
    return LogLocation(address, number, messages, letters, numbered=True)
