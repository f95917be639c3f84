"""Redis and Kafka together, for fault tests of the migration between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from compose.local.server import LocalServer
from persistence.chain.ends import end_of
from persistence.chain.known_chain import KnownChain
from persistence.chain.links import Marks
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.faults.deployment import Deployment
from tests.faults.kafka_log import KafkaLog
from tests.faults.logs import RedisLog
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from transport.contract import DLQ_GROUP, WORKER_GROUP, Progress, Topic, Transport
from transport.registry import create
from transport.settings import TransportSettings

__all__ = [
    "CONSUME",
    "KAFKA",
    "MIRROR",
    "PRIMARY",
    "REDIS",
    "BothLogs",
    "BothLogsDeployment",
    "has_shares",
]

REDIS = {"TRANSPORT": "redis"}
MIRROR = {**REDIS, "TRANSPORT_SHADOW": "kafka", "TRANSPORT_SHADOW_MODE": "sync"}
CONSUME = {**MIRROR, "CONSUME_FROM": "kafka"}
PRIMARY = {
    "TRANSPORT": "kafka", "TRANSPORT_SHADOW": "redis", "TRANSPORT_SHADOW_MODE": "sync",
    "CONSUME_FROM": "kafka",
}  # fmt: skip
KAFKA = {"TRANSPORT": "kafka"}


class BothLogs:
    """Two logs as one ``FaultyLog``; a process starts with Redis."""

    name = "redis"
    markers: ClassVar[Mapping[str, bytes]] = {}

    def __init__(self, redis: RedisLog, kafka: KafkaLog) -> None:
        self.redis = redis
        self.kafka = kafka
        self.server: LocalServer = redis.server

    def environment(self) -> dict[str, str]:
        """Return the settings with which the service uses both."""
        return {**self.kafka.environment(), **self.redis.environment()}

    def environment_through(self, host: str, port: int) -> dict[str, str]:
        """Return the settings with which the service uses Redis at this address."""
        return {**self.environment(), **self.redis.environment_through(host, port)}

    async def wipe(self) -> None:
        """Delete all data of both logs."""
        await self.redis.wipe()
        await self.kafka.wipe()


class BothLogsDeployment(Deployment):
    """A deployment whose records are settled when they are in both logs."""

    async def open(self, name: str) -> Transport:
        """Return a log for the test's own use."""
        environment = {k.lower(): v for k, v in self.log.environment().items()}
        settings = TransportSettings(**environment)  # type: ignore[arg-type]
        return await self._stack.enter_async_context(create(name, settings))

    async def are_mirrored(
        self, *, read: str = "redis", other: str = "kafka", marked: bool = True
    ) -> None:
        """Record that every process writes both logs from now on, as the end of a step does.

        Args:
            read: The log that was read so far.
            other: The other one.
            marked: Whether all that this log has by now is to be read first. A step always says so.
        """
        pool = await connect(PersistenceSettings(database_url=self.database_url))
        try:
            marks = await end_of(await self.open(read))
            if not marked:
                marks = Marks(marks.identity, {})
            await KnownChain(pool).update(lambda now: now.marked({read: marks}, read, other))
        finally:
            await pool.close()

    async def settled(self, logs: tuple[str, ...] = ("redis", "kafka")) -> None:
        """Wait until everything in both logs is acknowledged, including dead letters."""
        opened = [await self.open(name) for name in logs]

        async def nothing_left() -> bool:
            left = {}
            for log in opened:
                for topic, group in (
                    (Topic.MESSAGES, WORKER_GROUP),
                    (Topic.DEAD_LETTERS, DLQ_GROUP),
                ):
                    for part in await log.progress(topic, group=group):
                        if part.lag != 0:
                            left[log.name, topic.value, part.partition] = part.lag
            assert not left, f"not acknowledged: {left}"
            return True

        await eventually(nothing_left, every=0.2)

    async def catches_up(self, logs: tuple[str, ...] = ("redis", "kafka")) -> None:
        """Wait until all present records of the logs are acknowledged; more may follow."""
        opened = [await self.open(name) for name in logs]
        ends = {log.name: [part.end for part in await _progress(log)] for log in opened}

        async def passed() -> bool:
            left = [
                (log.name, part.partition, part.floor, end)
                for log in opened
                for part, end in zip(await _progress(log), ends[log.name], strict=True)
                if end and part.lag and log.sort_key(part.floor or "0") < log.sort_key(end)
            ]
            assert not left, f"not acknowledged: {left}"
            return True

        await eventually(passed, every=0.2)


async def _progress(log: Transport) -> Sequence[Progress]:
    return await log.progress(Topic.MESSAGES, group=WORKER_GROUP)


async def has_shares(*workers: ForkedService, partitions: int = 4) -> None:
    """Wait until each worker and its follower own at least so many partitions of each log."""

    async def they_have() -> bool:
        owned = [
            await worker.metric("stream_partition_owned", transport=log)
            for worker in workers
            for log in ("redis", "kafka")
        ]
        return min(owned) >= partitions

    await eventually(they_have, every=0.2)
