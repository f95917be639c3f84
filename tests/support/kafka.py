"""Real Kafka nodes for tests. Without Kafka, tests fail in CI, and are skipped elsewhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import UnknownTopicOrPartitionError

from compose.local.kafka import KafkaServer
from compose.local.kafka_jars import find_java, kafka_jars
from compose.local.ports import free_port
from compose.local.server import ServerError
from tests.support.containers import KafkaContainer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka_cluster import KafkaCluster
from tests.support.kafka_format import format_data, new_id
from tests.support.requirements import absent
from tests.support.services import KIND, run_kafka_container
from transport.kafka.loss.identity import topic_id
from transport.settings import TransportSettings

__all__ = [
    "TOPICS",
    "KafkaNode",
    "alter_brokers",
    "alter_topic",
    "delete_topics",
    "fresh_settings",
    "mended",
    "require_kafka",
    "run_kafka",
    "run_kafka_behind_a_proxy",
    "run_kafka_cluster",
    "run_shared_kafka",
]

KafkaNode = KafkaServer | KafkaContainer
TOPICS = f"test.{os.getpid()}."
"""The prefix of our topics' names; an external Kafka may have other topics."""
_numbers = count(1)


async def require_kafka() -> None:
    """Skip the calling test if this machine has no Kafka; fail it in CI."""
    try:
        await asyncio.to_thread(find_java)
        await asyncio.to_thread(kafka_jars)
    except ServerError as error:
        absent(f"no Kafka: {error}")


@asynccontextmanager
async def run_kafka(folder: Path, **options: Any) -> AsyncIterator[KafkaServer]:
    """Run a node of the caller's own on ``folder``."""
    await require_kafka()
    server = KafkaServer(folder / "data", **_creating_topics(options))
    if "security" not in options and not server.data_dir.exists():
        await format_data(server.data_dir, cluster_id=new_id())
    await server.start()
    try:
        yield server
    finally:
        await server.kill()  # no orderly stop: the test's data is not needed any more


@asynccontextmanager
async def run_shared_kafka(folder: Path) -> AsyncIterator[KafkaNode]:
    """Run a node for many tests: a child process, or a container with ``TEST_SERVICES=docker``."""
    if KIND == "docker":
        async with run_kafka_container() as container:
            yield container
    else:
        async with run_kafka(folder) as server:
            yield server


async def mended(node: KafkaNode) -> KafkaNode:
    """Return the node, running again if the last test stopped or suspended it."""
    if not node.running:
        await node.start()
    elif isinstance(node, KafkaServer):
        await node.resume()
    return node


@asynccontextmanager
async def run_kafka_behind_a_proxy(folder: Path) -> AsyncIterator[tuple[KafkaServer, FaultProxy]]:
    """Run a node that advertises the address of a proxy in front of it."""
    port = free_port()
    async with (
        FaultProxy("127.0.0.1", port) as proxy,
        run_kafka(folder, port=port, advertised_port=proxy.port) as server,
    ):
        yield server, proxy


@asynccontextmanager
async def run_kafka_cluster(folder: Path, **options: Any) -> AsyncIterator[KafkaCluster]:
    """Run three nodes of the caller's own in ``folder``."""
    await require_kafka()
    cluster = KafkaCluster(folder, **_creating_topics(options))
    cluster_id = new_id()
    for node in cluster.nodes:
        await format_data(node.data_dir, node_id=node.node_id, cluster_id=cluster_id)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.kill()


def _creating_topics(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a node that creates the topics that clients ask for, as Kafka by default.

    What ``make up`` starts does not. So a question of ours that creates a topic fails a test.
    """
    config = {"auto.create.topics.enable": "true", **options.get("config", {})}
    return {**options, "config": config}


async def alter_topic(bootstrap: str, name: str, config: Mapping[str, str]) -> None:
    """Give a topic these settings; those that are left out become the server's defaults."""
    await _alter(bootstrap, ConfigResource(ConfigResourceType.TOPIC, name, dict(config)))


async def alter_brokers(bootstrap: str, config: Mapping[str, str]) -> None:
    """Give every broker these settings; those that are left out become those of its file."""
    await _alter(bootstrap, ConfigResource(ConfigResourceType.BROKER, "1", dict(config)))


async def _alter(bootstrap: str, resource: ConfigResource) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answers = await admin.alter_configs([resource])  # the first is of topics, if there are any
        ((code, message, *_),) = answers[-1].resources
        assert code == 0, message
    finally:
        await admin.close()


async def delete_topics(bootstrap: str, *names: str) -> None:
    """Delete topics; return when they are gone, or were made anew.

    Kafka answers before it has deleted them, and still accepts appends for a while: for seconds on
    a busy machine.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        before = {name: await topic_id(admin, name) for name in names}
        await admin.delete_topics(list(names))

        async def gone() -> bool:
            return all([await _id_now(admin, name) != id_ for name, id_ in before.items()])

        await eventually(gone)
    finally:
        await admin.close()


async def _id_now(admin: AIOKafkaAdminClient, name: str) -> str | None:
    try:
        return await topic_id(admin, name)
    except UnknownTopicOrPartitionError:
        return None


def fresh_settings(bootstrap: str, **changes: Any) -> TransportSettings:
    """Return settings with topics of their own, and few partitions."""
    name = f"{TOPICS}{next(_numbers)}"
    ours: dict[str, Any] = {
        "transport": "kafka",
        "kafka_bootstrap_servers": bootstrap,
        "kafka_topic": f"{name}.stream",
        "kafka_dlq_topic": f"{name}.dlq",
        "kafka_timeout_ms": 2000,
        "stream_partitions": 4,
    }
    return TransportSettings(**(ours | changes))
