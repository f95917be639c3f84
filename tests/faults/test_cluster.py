"""Three Kafka nodes: one lost is not an outage, two lost is one, and neither loses anything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.deployment import Deployment
from tests.faults.kafka_log import KafkaLog
from tests.faults.logs import FaultyLog
from tests.support.eventually import eventually
from tests.support.kafka import run_kafka_cluster
from tests.support.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaCluster]:
    async with run_kafka_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def log(cluster: KafkaCluster) -> FaultyLog:
    """Three replicas, two of which must have a message before it is acknowledged; all up."""
    for node in cluster.nodes:
        if not node.running:
            await node.start()
    return KafkaLog(cluster)


async def test_any_one_of_three_nodes_may_be_lost(
    deployment: Deployment, cluster: KafkaCluster
) -> None:
    """Each in turn, with its leaders, and the group's coordinator and the controller among them."""
    ingresses, _ = await deployment.run()
    async with deployment.load(ingresses) as load:
        await load.goes_on(100)
        for node in cluster.nodes:
            await node.kill()
            await load.goes_on(200)
            await node.start()
            await load.goes_on(50)
    await deployment.assert_promises_held()


async def test_two_of_three_nodes_lost_is_a_503_that_says_when_to_come_back(
    deployment: Deployment, cluster: KafkaCluster
) -> None:
    ingresses, _ = await deployment.run()
    attempts = deployment.history.attempts
    async with deployment.load(ingresses) as load:
        await load.goes_on(100)
        for node in cluster.nodes[1:]:
            await node.kill()
        killed = len(attempts)

        def refused() -> bool:
            told = [a for a in attempts[killed:] if a.status == 503 and a.retry_after]
            return len(told) > 50

        await eventually(refused)
        for node in cluster.nodes[1:]:
            await node.start()
        await load.goes_on(200)
    await deployment.assert_promises_held()
