"""A broker with old metadata names the topic that was deleted, as one without its controllers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.kafka import fresh_settings, run_kafka_cluster
from tests.support.kafka_cluster import KafkaCluster
from tests.support.kafka_internals import disconnect_admin, name_another_topic_id
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Progress, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaCluster]:
    async with run_kafka_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def settings(cluster: KafkaCluster) -> TransportSettings:
    return fresh_settings(cluster.bootstrap, kafka_replication_factor=3, kafka_timeout_ms=4000)


@pytest_asyncio.fixture
async def transport(settings: TransportSettings) -> AsyncIterator[KafkaTransport]:
    async with KafkaTransport(settings) as transport:
        yield transport


async def test_one_broker_sets_no_group_back_and_counts_no_loss(
    transport: KafkaTransport, settings: TransportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await transport.publish(messages(list("abcde"), partition=0, of=transport))
    await transport.publish_positions(Topic.MESSAGES, {0: "1"}, group=WORKER_GROUP)
    name_another_topic_id(monkeypatch, nodes={2})
    for _ in range(20):  # each asks any of the three
        assert (await _progress(transport)).lost == 0
    async with KafkaTransport(settings) as started:
        for log in (transport, started) * 3:
            await log.publish_positions(Topic.MESSAGES, {0: "1"}, group=WORKER_GROUP)
    progress = await _progress(transport)
    assert (progress.floor, progress.lag, progress.lost) == ("1", 3, 0)


async def test_no_id_is_believed_that_most_brokers_do_not_name(
    transport: KafkaTransport, settings: TransportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the three names another one. Which is right can't be known, so it is asked again."""
    known = await transport.identity()
    async with KafkaTransport(settings) as started:
        with monkeypatch.context() as patch:
            name_another_topic_id(patch, nodes={1, 2})
            with pytest.raises(TransportUnavailable, match="brokers disagree"):
                await started.identity()
        assert await started.identity() == known


@pytest.mark.parametrize("node", [1, 2, 3])
async def test_a_broker_that_hangs_does_not_keep_the_id_from_being_known(
    cluster: KafkaCluster, transport: KafkaTransport, settings: TransportSettings, node: int
) -> None:
    """Whichever is asked first: a client of aiokafka connects to one at a time."""
    known = await transport.identity()
    async with KafkaTransport(settings) as started:
        await disconnect_admin(started)
        await cluster.node(node).suspend()
        try:
            assert await started.identity() == known
        finally:
            await cluster.node(node).resume()


async def _progress(transport: KafkaTransport) -> Progress:
    return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
