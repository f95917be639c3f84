"""Logs on a cluster of three shards, and traffic on them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.crc import key_slot

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.support.whole_log import records_of
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler
from transport.conformance.envelopes import message
from transport.contract import Appended, Envelope, Outcome, Record, Remembered
from transport.redis import RedisTransport
from transport.settings import TransportSettings

__all__ = [
    "PARTITIONS",
    "Traffic",
    "another",
    "assert_all_stands",
    "is_replaced",
    "message_id_of",
    "move_slots",
    "offset_of",
    "opened",
    "reading",
    "settings_of",
]

PARTITIONS = 6


def settings_of(cluster: RedisCluster, **changes: Any) -> TransportSettings:
    """Return settings of a log on the cluster."""
    few: dict[str, Any] = {
        "redis_url": f"redis://{cluster.addresses}/0",
        "stream_retention_records": 1_000_000,  # tests read the whole log at their end
    }
    return short_settings(None, **{**few, "stream_partitions": PARTITIONS, **changes})


@asynccontextmanager
async def opened(cluster: RedisCluster, **changes: Any) -> AsyncIterator[RedisTransport]:
    """Open a log on the cluster; ``changes`` override its settings."""
    async with RedisTransport.from_settings(settings_of(cluster, **changes)) as transport:
        yield transport


async def another(cluster: RedisCluster, server: ValkeyServer) -> ValkeyServer:
    """Return a primary other than ``server``."""
    return next(it for it in await cluster.primaries() if it is not server)


async def is_replaced(shards: RedisCluster, victim: ValkeyServer) -> None:
    """Wait until a replica has the slots of ``victim``."""

    async def has_no_slots() -> bool:
        return victim not in await shards.primaries(but=victim)

    await eventually(has_no_slots)


def message_id_of(record: Record) -> str:
    """Return the id of the message in a record."""
    return record.headers["messageId"].decode()


def offset_of(outcome: Outcome) -> str:
    """Return the offset at which a record was appended."""
    assert isinstance(outcome, Appended | Remembered)
    return outcome.offset


class Traffic:
    """Conversations, each of which sends its next message after the last one's acknowledgement."""

    def __init__(self, transport: RedisTransport) -> None:
        self._transport = transport
        self._ended = asyncio.Event()
        self.acknowledged: dict[int, list[str]] = defaultdict(list)
        self.refused = 0
        self._senders: dict[str, int] = {}
        self._reader: Settler

    @asynccontextmanager
    async def running(self, conversations: int = 12) -> AsyncIterator[None]:
        """Send and read, until the block ends and all that was acknowledged is read."""
        async with asyncio.TaskGroup() as group:
            senders = [group.create_task(self._send(n)) for n in range(conversations)]
            async with Settler(self._transport, batch=100).working() as self._reader:
                yield
                self._ended.set()
                await asyncio.gather(*senders)
                await eventually(self._all_read)

    def told(self) -> int:
        """Return the number of acknowledged messages."""
        return sum(map(len, self.acknowledged.values()))

    async def goes_on(self, more: int = 36) -> None:
        """Wait until each conversation has ``more`` further acknowledged messages."""
        before = {n: len(some) for n, some in self.acknowledged.items()}
        each = max(1, more // max(1, len(before)))

        def has_gone_on() -> bool:
            now = self.acknowledged
            return len(now) > 0 and all(
                len(some) >= before.get(n, 0) + each for n, some in now.items()
            )

        await eventually(has_gone_on)

    def of(self, ids: Sequence[str], conversation: int) -> list[str]:
        """Return the messages of a conversation among ``ids``."""
        return [it for it in ids if self._senders[it] == conversation]

    async def log(self) -> dict[int, list[str]]:
        """Return the ids of all records that are in the log, by partition."""
        found: dict[int, list[str]] = {}
        for partition in range(PARTITIONS):
            records = await records_of(self._transport, partition)
            found[partition] = [message_id_of(record) for record in records]
        return found

    async def _send(self, conversation: int) -> None:
        partition = conversation % PARTITIONS
        number = 0
        while not self._ended.is_set():
            envelope = message(f"c{conversation}-{number}", partition=partition, of=self._transport)
            self._senders[envelope.message_id] = conversation
            while not await self._publish(envelope):
                self.refused += 1
                await asyncio.sleep(0.02)
            self.acknowledged[conversation].append(envelope.message_id)
            number += 1

    async def _publish(self, envelope: Envelope) -> bool:
        (outcome,) = await self._transport.publish([envelope])
        return isinstance(outcome, Appended | Remembered)

    def read(self, partition: int) -> list[str]:
        """Return the ids of a partition's records, as they were read."""
        found = self._reader.records
        return [message_id_of(record) for record in found if record.partition == partition]

    def _all_read(self) -> bool:
        return all(
            set(some) <= set(self.read(conversation % PARTITIONS))
            for conversation, some in self.acknowledged.items()
        )


def assert_all_stands(traffic: Traffic, log: dict[int, list[str]], *, once: bool) -> None:
    """Assert that all acknowledged messages are in the log, and were read, in order."""
    for conversation, acknowledged in traffic.acknowledged.items():
        partition = conversation % PARTITIONS
        stands = traffic.of(log[partition], conversation)
        assert (stands if once else list(dict.fromkeys(stands))) == acknowledged
        read = traffic.of(traffic.read(partition), conversation)
        assert list(dict.fromkeys(read)) == acknowledged


async def move_slots(
    shards: RedisCluster, traffic: Traffic, names: Sequence[str], *, whole: bool = False
) -> None:
    """Move the slots of these keys, one by one, each to another server.

    ``whole``: whether the servers do it by themselves, in one step for clients.
    """
    move = shards.move_whole if whole else shards.move
    for name in names:
        source = await shards.primary_of(name)
        await move(key_slot(name.encode()), await another(shards, source))
        await traffic.goes_on()


@asynccontextmanager
async def reading(transport: RedisTransport, got: dict[str, float]) -> AsyncIterator[None]:
    """Read, and note the time of each message, until the block ends."""
    worker, loop = Settler(transport), asyncio.get_running_loop()

    async def note() -> None:
        while True:
            for record in worker.records[len(got) :]:
                got[message_id_of(record)] = loop.time()
            await asyncio.sleep(0.01)

    async with worker.working():
        noting = asyncio.create_task(note())
        try:
            yield
        finally:
            noting.cancel()
            await asyncio.wait([noting])
