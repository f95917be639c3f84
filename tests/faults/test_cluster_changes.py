"""Kafka's nodes are replaced one by one, and a topic's replication is changed, under load."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest

from tests.faults.deployment import Deployment
from tests.faults.kafka_log import KafkaLog
from tests.faults.logs import FaultyLog, settings_of
from tests.support.eventually import eventually
from tests.support.kafka import alter_topic, run_kafka_cluster
from tests.support.kafka_cluster import KafkaCluster
from tests.support.kafka_format import format_data
from transport.kafka.administration.topics import topic_specs

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

EVERY = {1, 2, 3}


@pytest_asyncio.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaCluster]:
    async with run_kafka_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def log(cluster: KafkaCluster) -> FaultyLog:
    """Three replicas, two of which must have a message before it is acknowledged."""
    return KafkaLog(cluster)


@pytest_asyncio.fixture
async def admin(cluster: KafkaCluster) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    yield admin
    await admin.close()


async def _partitions(
    admin: AIOKafkaAdminClient, topics: Sequence[str] | None = None
) -> list[Mapping[str, Any]]:
    described = await admin.describe_topics(topics)
    return [partition for topic in described for partition in topic["partitions"]]


async def _in_sync(admin: AIOKafkaAdminClient, nodes: set[int]) -> None:
    """Wait until these nodes, and no others, are in sync for every partition."""

    async def caught_up() -> bool:
        try:
            partitions = await _partitions(admin)
        except KafkaError as error:
            raise AssertionError(str(error)) from error
        behind = [p for p in partitions if set(p["isr"]) != nodes]
        assert not behind, f"{len(behind)} of {len(partitions)}, such as {behind[0]}"
        return True

    await eventually(caught_up, every=0.5)


def _cluster_id(data_dir: Path) -> str:
    lines = (data_dir / "log" / "meta.properties").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))


async def test_nodes_are_replaced_one_by_one_by_such_with_an_empty_disk(
    deployment: Deployment, cluster: KafkaCluster, admin: AIOKafkaAdminClient
) -> None:
    """Each node is killed for good, and a machine with an empty disk takes its node id."""
    ingresses, _ = await deployment.run()
    async with deployment.load(ingresses) as load:
        await load.goes_on(200)
        for node in cluster.nodes:
            identifier = _cluster_id(node.data_dir)
            await node.kill()
            shutil.rmtree(node.data_dir)
            await load.goes_on(200)
            await format_data(node.data_dir, node_id=node.node_id, cluster_id=identifier)
            await node.start()
            await _in_sync(admin, EVERY)  # what an operator waits for before the next one
            await load.goes_on(100)
    await deployment.assert_promises_held()


async def test_the_replication_of_the_topic_is_changed_there_and_back(
    deployment: Deployment, admin: AIOKafkaAdminClient
) -> None:
    """From three replicas to two and back, which also changes the leader of each partition."""
    ingresses, _ = await deployment.run()
    topic = deployment.log.environment()["KAFKA_TOPIC"]
    async with deployment.load(ingresses) as load:
        await load.goes_on(200)
        numbers = [partition["partition"] for partition in await _partitions(admin, [topic])]
        for size in (2, 3):
            turned = {n: [(n + size + i) % 3 + 1 for i in range(size)] for n in numbers}
            await _reassign(admin, topic, turned)

            async def changed(turned: dict[int, list[int]] = turned) -> bool:
                found = await _partitions(admin, [topic])
                return all(
                    p["replicas"] == turned[p["partition"]] and set(p["isr"]) == set(p["replicas"])
                    for p in found
                )

            await eventually(changed, every=0.5)
            await load.goes_on(200)
    await deployment.assert_promises_held()


async def test_a_topic_demands_fewer_replicas_than_we_want_and_then_too_many(
    deployment: Deployment, cluster: KafkaCluster
) -> None:
    """With a node away, readiness goes by what the topic demands, as the brokers do."""
    ingresses, _ = await deployment.run(KAFKA_MIN_INSYNC_REPLICAS="3")
    specs = topic_specs(settings_of(deployment.log)).values()

    async def demand(replicas: int) -> None:
        for spec in specs:
            config = {**spec.config, "min.insync.replicas": str(replicas)}
            await alter_topic(cluster.bootstrap, spec.name, config)

    async def is_said(name: str, status: str, text: str) -> bool:
        async with httpx.AsyncClient(base_url=ingresses[0].url, timeout=30) as client:
            ready = (await client.get("/readyz")).json()["components"]
        said = [(each["status"], each["detail"]) for each in ready if each["name"] == name]
        assert any(is_ == status and text in detail for is_, detail in said), said
        return True

    gone = cluster.nodes[0]
    async with deployment.load(ingresses) as load:
        await load.goes_on(200)
        await gone.kill()
        await eventually(lambda: is_said("log (kafka)", "down", "min.insync.replicas"))
        await demand(2)
        await load.goes_on(200)
        await eventually(lambda: is_said("log (kafka)", "up", "takes appends"))
        altered = "min.insync.replicas is 2, wanted 3"
        name = "settings of the log (kafka)"
        await eventually(lambda: is_said(name, "degraded", altered))
        await demand(3)
        await eventually(lambda: is_said("log (kafka)", "down", "min.insync.replicas"))
        await gone.start()
        await load.goes_on(200)
    await demand(2)  # as the settings of the test's own transport have it
    await deployment.assert_promises_held()


async def _reassign(
    admin: AIOKafkaAdminClient, topic: str, replicas: Mapping[int, list[int]]
) -> None:
    partitions = [(number, nodes, {}) for number, nodes in replicas.items()]
    request = AlterPartitionReassignmentsRequest(60_000, [(topic, partitions, {})], {})
    answer = await admin._send_to_controller(request)  # noqa: SLF001 - no public way
    assert answer.error_code == 0, answer
    assert all(p[1] == 0 for _, found, _ in answer.responses for p in found), answer
