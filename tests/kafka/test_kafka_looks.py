"""When a client of Kafka looks at its partitions."""
# ruff: noqa: SLF001 - no figure tells how often it does

from __future__ import annotations

from typing import Any

from aiokafka.structs import TopicPartition

from tests.support.eventually import eventually
from transport.kafka import KafkaTransport
from transport.kafka.connection import Connector
from transport.kafka.looks import LOOK_MS
from transport.settings import TransportSettings


async def test_a_client_looks_at_its_partitions_whenever_it_has_new_metadata(
    kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    """The leader of what it waits for may have moved: a broker that is gone tells it nothing."""
    client = await Connector(kafka_settings).reader()
    try:
        at = TopicPartition(kafka_settings.kafka_topic, 0)
        client.assign([at])
        client.pause(at)
        fetcher, looks = client._fetcher, []
        look = fetcher._get_actions_per_node

        def noting(assignment: Any) -> Any:
            looks.append(assignment)
            return look(assignment)

        fetcher._get_actions_per_node = noting
        for _ in range(6):  # the first ones may be of its beginning, and one of its own accord
            before = len(looks)
            await client._client.force_metadata_update()
            await eventually(lambda before=before: len(looks) > before, timeout=LOOK_MS / 5000)
    finally:
        await client.stop()
