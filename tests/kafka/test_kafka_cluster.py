"""Three nodes: one lost is not noticed for long, two lost is an outage, and neither is a loss."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest_v0
from aiokafka.protocol.metadata import MetadataRequest_v1

from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka import alter_topic, fresh_settings, run_kafka_cluster
from tests.support.kafka_cluster import KafkaCluster
from tests.support.requirements import program
from tests.support.whole_log import records_of
from transport.conformance.envelopes import contents, messages
from transport.conformance.reader import ConformanceReader
from transport.contract import WORKER_GROUP, Appended, Outcome, Topic
from transport.errors import AppendUnknown, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.client.requests import OneVersion
from transport.progress import progress_everywhere
from transport.settings import TransportSettings

_RECEIVED = re.compile(r"bytes_received:(\d+)")
_GONE = "A Kafka node can't be reached"
_BY_RACK = "org.apache.kafka.common.replica.RackAwareReplicaSelector"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaCluster]:
    config = {"replica.selector.class": _BY_RACK}
    async with run_kafka_cluster(tmp_path_factory.mktemp("cluster"), config=config) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def settings(cluster: KafkaCluster) -> TransportSettings:
    """Three replicas, of which two must have an append; every node up."""
    for node in cluster.nodes:
        if not node.running:
            await node.start()
    return fresh_settings(cluster.bootstrap, kafka_replication_factor=3, kafka_timeout_ms=4000)


class _Load:
    """Publishes to every partition all the time and keeps what was acknowledged, in order."""

    def __init__(self, transport: KafkaTransport) -> None:
        self.acknowledged: list[list[str]] = [[] for _ in range(transport.partitions)]
        self.slowest = 0.0
        self._transport = transport
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[_Load]:
        tasks = [asyncio.create_task(self._publish(p)) for p in range(len(self.acknowledged))]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def goes_on(self) -> None:
        """Wait until every partition has taken more."""
        since = [len(texts) for texts in self.acknowledged]
        await eventually(
            lambda: all(len(a) > n + 10 for a, n in zip(self.acknowledged, since, strict=True)),
        )

    async def _publish(self, partition: int) -> None:
        number = 0
        while not self._stop.is_set():
            text = f"{partition}:{number}"
            began = time.monotonic()
            (outcome,) = await self._transport.publish(
                messages([text], partition=partition, of=self._transport)
            )
            self.slowest = max(self.slowest, time.monotonic() - began)
            if isinstance(outcome, Appended):
                self.acknowledged[partition].append(text)
            number += 1
            await asyncio.sleep(0.01)


async def _all_there(transport: KafkaTransport, load: _Load) -> None:
    for partition, texts in enumerate(load.acknowledged):
        stands = contents(await records_of(transport, partition))
        known = set(texts)
        assert [text for text in stands if text in known] == texts, "in order, each once"


async def _leader(cluster: KafkaCluster, topic: str, partition: int) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    (described,) = await admin.describe_topics([topic])
    await admin.close()
    leaders = {part["partition"]: part["leader"] for part in described["partitions"]}
    return int(leaders[partition])


async def test_one_of_three_lost_and_its_leaders_moved_is_still_available(
    cluster: KafkaCluster, settings: TransportSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with KafkaTransport(settings) as transport:
        readers = [ConformanceReader(transport, p) for p in range(transport.partitions)]
        async with AsyncExitStack() as stack:
            for reader in readers:
                await stack.enter_async_context(reader.reading())
            load = await stack.enter_async_context(_Load(transport).running())
            await load.goes_on()
            for _ in range(2):
                victim = await _leader(cluster, settings.kafka_topic, 0)
                await cluster.node(victim).kill()
                await load.goes_on()
                await transport.ping()
                assert await _leader(cluster, settings.kafka_topic, 0) != victim
                await cluster.node(victim).start()
                await load.goes_on()
        await _all_there(transport, load)
        for partition, reader in enumerate(readers):
            async with reader.reading():
                stored = await records_of(transport, partition)
                await eventually(lambda: len(reader.records) >= len(stored))  # noqa: B023
            assert contents(reader.records) == contents(stored)
        positions = {r.partition: r.offset for it in readers for r in it.records[-1:]}
        await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert [part.lost for part in progress] == [0] * 4, "an ordinary election loses nothing"
    gone = [record for record in caplog.records if record.message.startswith(_GONE)]
    assert 0 < len(gone) <= 2, "an operator reads once of each outage"
    lines = Counter((record.name, record.msg) for record in caplog.records)
    assert max(lines.values()) <= 6, lines.most_common(5)


async def test_a_frozen_leader_is_left_in_time(
    cluster: KafkaCluster, settings: TransportSettings
) -> None:
    async with KafkaTransport(settings) as transport, _Load(transport).running() as load:
        await load.goes_on()
        victim = await _leader(cluster, settings.kafka_topic, 0)
        await cluster.node(victim).suspend()
        try:
            await load.goes_on()
        finally:
            await cluster.node(victim).resume()
        await load.goes_on()
        assert load.slowest < 6.0, "no call waited much longer than its timeout of 4 s"
    async with KafkaTransport(settings) as transport:
        await _all_there(transport, load)


async def test_two_of_three_lost_refuses_in_time_and_loses_nothing_acknowledged(
    cluster: KafkaCluster, settings: TransportSettings
) -> None:
    async with KafkaTransport(settings) as transport, _Load(transport).running() as load:
        await load.goes_on()
        for node in cluster.nodes[1:]:
            await node.kill()
        await eventually(_refused_everywhere(transport))
        with pytest.raises(TransportUnavailable):
            await transport.ping()
        stuck = [len(texts) for texts in load.acknowledged]
        await asyncio.sleep(2.0)
        assert [len(texts) for texts in load.acknowledged] == stuck, "one node acknowledges nothing"
        for node in cluster.nodes[1:]:
            await node.start()
        await load.goes_on()
        await eventually(lambda: _healthy(transport))
    async with KafkaTransport(settings) as transport:
        await _all_there(transport, load)


async def test_a_partition_without_a_leader_makes_only_its_own_lag_unknown(
    cluster: KafkaCluster, settings: TransportSettings
) -> None:
    alone = settings.model_copy(update={"kafka_replication_factor": 1})
    async with KafkaTransport(alone) as transport:
        batch = [
            message
            for partition in range(transport.partitions)
            for message in messages(["waits"], partition=partition, of=transport)
        ]
        assert all(isinstance(o, Appended) for o in await transport.publish(batch))
        leaders = [
            await _leader(cluster, alone.kafka_topic, p) for p in range(transport.partitions)
        ]
        victim = max(leaders)
        await cluster.node(victim).kill()

        async def unknown() -> bool:
            try:
                progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            except TransportUnavailable:
                return False  # the cluster has not noticed yet that the leader is gone
            return any(part.unavailable for part in progress)

        await eventually(unknown)
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert {part.lag for part in progress if not part.unavailable} == {1}
        assert {(part.lag, part.end) for part in progress if part.unavailable} == {(None, None)}
        with pytest.raises(TransportUnavailable, match="have no leader"):
            await progress_everywhere(transport, Topic.MESSAGES, group=WORKER_GROUP)
        await cluster.node(victim).start()

        async def known() -> bool:
            try:
                progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            except TransportUnavailable:
                return False
            return [part.lag for part in progress] == [1] * 4

        await eventually(known)


def _refused_everywhere(transport: KafkaTransport) -> Callable[[], Awaitable[bool]]:
    async def refused() -> bool:
        began = time.monotonic()
        batch = [
            message
            for partition in range(transport.partitions)
            for message in messages(["refused"], partition=partition, of=transport)
        ]
        outcomes: list[Outcome] = list(await transport.publish(batch))
        assert time.monotonic() - began < 6.0
        return all(isinstance(o, TransportUnavailable | AppendUnknown) for o in outcomes)

    return refused


async def _healthy(transport: KafkaTransport) -> bool:
    try:
        await transport.ping()
    except TransportUnavailable:
        return False
    return True


async def test_records_are_fetched_from_the_replica_in_our_rack(
    cluster: KafkaCluster, settings: TransportSettings
) -> None:
    """KIP-392. Bytes are counted where the kernel counts them, for each node's port."""
    texts = [f"{number} {'x' * 10_000}" for number in range(100)]
    async with KafkaTransport(settings) as writer:
        await writer.publish(messages(texts, partition=0, of=writer))
    leader = await _leader(cluster, settings.kafka_topic, 0)
    near = next(node for node in cluster.nodes if node.node_id != leader)
    ours = settings.model_copy(update={"kafka_client_rack": near.rack})
    async with KafkaTransport(ours) as log:
        records = await first_records(log, len(texts), patience=60.0)
        received = {node.node_id: await _received_from(node.port) for node in cluster.nodes}
    assert contents(records) == texts
    size = sum(map(len, texts))
    assert received[near.node_id] > size
    assert received[leader] < size / 2


async def _received_from(port: int) -> int:
    """Return how many bytes this process has received over connections to ``port``."""
    ss = program("ss", package="iproute2")
    process = await asyncio.create_subprocess_exec(
        *(ss, "--tcp", "--numeric", "--info", "--processes", "--no-header", "--oneline"),
        *("dport", "=", f":{port}"),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    ours = [line for line in told.decode().splitlines() if f"pid={os.getpid()}," in line]
    return sum(int(number) for line in ours for number in _RECEIVED.findall(line))


async def test_a_partition_that_is_being_moved_stops_no_start(
    cluster: KafkaCluster, settings: TransportSettings
) -> None:
    """It has its old replicas and its new ones; here for as long as the new one is down."""
    settings = settings.model_copy(update={"kafka_replication_factor": 2})
    async with KafkaTransport(settings):
        pass
    letters = settings.kafka_dlq_topic  # it has one partition, so all of it is being moved
    leader, replicas = await _leader(cluster, letters, 0), await _replicas(cluster, letters)
    (new,) = {node.node_id for node in cluster.nodes} - set(replicas)
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    await cluster.node(new).kill()
    moves: list[tuple[Any, ...]] = [(letters, [(0, [leader, new], {})], {})]
    request = OneVersion(AlterPartitionReassignmentsRequest_v0, 5000, moves, {})
    await admin._send_request(request, leader)  # noqa: SLF001 - no public way
    await admin.close()

    async def is_being_moved() -> bool:
        return len(await _replicas(cluster, letters)) == 3

    await eventually(is_being_moved)

    async def starts() -> bool:
        try:
            async with KafkaTransport(settings):
                return True
        except TransportUnavailable:  # it asked the node that is down
            return False

    await eventually(starts)


async def _replicas(cluster: KafkaCluster, topic: str) -> list[int]:
    (node, *_) = (node for node in cluster.nodes if node.running)
    admin = AIOKafkaAdminClient(bootstrap_servers=node.bootstrap)
    await admin.start()
    request = OneVersion(MetadataRequest_v1, [topic])
    answer = await admin._send_request(request, node.node_id)  # noqa: SLF001 - any other may be down
    await admin.close()
    ((_error, _topic, _internal, ((_code, _number, _leader, replicas, _isr),)),) = answer.topics
    return list(replicas)


async def test_a_group_that_kafka_can_not_write_to_only_hides_the_positions(
    cluster: KafkaCluster, settings: TransportSettings
) -> None:
    """Only the topic of the groups has too few replicas in step."""
    async with KafkaTransport(settings) as transport:
        await transport.publish(messages(["before"], partition=0, of=transport))
        await transport.publish_positions(Topic.MESSAGES, {0: "0"}, group=WORKER_GROUP)
        groups = {"cleanup.policy": "compact"}
        demanding = groups | {"min.insync.replicas": "3"}
        await alter_topic(cluster.bootstrap, "__consumer_offsets", demanding)
        victim = await _leader(cluster, settings.kafka_topic, 0)
        await cluster.node(victim).kill()
        try:
            await eventually(lambda: _healthy(transport))
            (outcome,) = await transport.publish(messages(["after"], partition=0, of=transport))
            assert isinstance(outcome, Appended)
            assert contents(await first_records(transport, 2)) == ["before", "after"]
            with pytest.raises(TransportUnavailable):
                await transport.publish_positions(
                    Topic.MESSAGES, {0: outcome.offset}, group=WORKER_GROUP
                )
            await transport.ping()
            await cluster.node(victim).start()
            await eventually(lambda: _healthy(transport))

            async def is_shown() -> bool:
                try:
                    await transport.publish_positions(
                        Topic.MESSAGES, {0: outcome.offset}, group=WORKER_GROUP
                    )
                except TransportUnavailable:
                    return False
                return True

            await eventually(is_shown)
        finally:
            still = [node for node in cluster.nodes if node.running]
            await alter_topic(still[0].bootstrap, "__consumer_offsets", groups)
