"""Topics: made right, or refused with every difference spelled out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka import alter_brokers
from transport.errors import ConfigurationError, TransportUnavailable
from transport.existing import must_exist
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


@pytest_asyncio.fixture
async def admin(kafka_server: KafkaServer) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
    await client.start()
    yield client
    await client.close()


async def test_missing_topics_are_made_as_configured(
    kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    settings = kafka_settings.model_copy(update={"kafka_retention_ms": 3_600_000})
    async with KafkaTransport(settings):
        (topic,) = await admin.describe_topics([settings.kafka_topic])
        assert len(topic["partitions"]) == 4
        config = await _config(admin, settings.kafka_topic)
        assert config["retention.ms"] == "3600000"
        assert config["min.insync.replicas"] == "1"
        assert config["cleanup.policy"] == "delete"
        assert config["message.timestamp.type"] == "LogAppendTime"
        assert config["unclean.leader.election.enable"] == "false"
        dead = await _config(admin, settings.kafka_dlq_topic)
        assert dead["retention.ms"] == "-1", "a dead letter waits for a person"
        assert int(dead["max.message.bytes"]) > int(config["max.message.bytes"])


async def test_no_topic_has_the_bound_in_bytes_that_is_the_brokers_default(
    kafka_server: KafkaServer, kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    """Many clusters set it. Kafka would remove unread records and dead letters."""
    bound = "1000000"
    other = f"{kafka_settings.kafka_topic}.other"
    await admin.create_topics([NewTopic(other, 1, 1)])
    await alter_brokers(kafka_server.bootstrap, {"log.retention.bytes": bound})
    try:

        async def is_the_default() -> bool:
            return (await _config(admin, other))["retention.bytes"] == bound

        await eventually(is_the_default)
        async with KafkaTransport(kafka_settings):
            for topic in (kafka_settings.kafka_topic, kafka_settings.kafka_dlq_topic):
                assert (await _config(admin, topic))["retention.bytes"] == "-1"
    finally:
        await alter_brokers(kafka_server.bootstrap, {})


async def test_topics_that_are_right_are_left_as_they_are(
    kafka_settings: TransportSettings,
) -> None:
    for _ in range(2):
        async with KafkaTransport(kafka_settings) as transport:
            await transport.ping()


async def test_a_topic_that_disagrees_stops_the_start_with_every_difference(
    kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    name = kafka_settings.kafka_topic
    wrong = {"cleanup.policy": "compact", "retention.ms": "1000", "retention.bytes": "1000000"}
    await admin.create_topics([NewTopic(name, 3, 1, topic_configs=wrong)])
    with pytest.raises(ConfigurationError, match="delete one that is empty") as refused:
        async with KafkaTransport(kafka_settings):
            pass
    told = str(refused.value)
    assert f"topic {name}: partitions is 3, wanted 4 (STREAM_PARTITIONS)" in told
    assert "cleanup.policy is compact, wanted delete" in told
    assert "retention.ms is 1000, wanted 604800000 (KAFKA_RETENTION_MS)" in told
    assert "retention.bytes is 1000000, wanted -1" in told
    assert "message.timestamp.type is CreateTime, wanted LogAppendTime" in told


async def test_more_replicas_than_brokers_stop_the_start(kafka_settings: TransportSettings) -> None:
    settings = kafka_settings.model_copy(update={"kafka_replication_factor": 3})
    with pytest.raises(ConfigurationError, match="KAFKA_REPLICATION_FACTOR"):
        async with KafkaTransport(settings):
            pass


async def test_brokers_that_are_not_ready_yet_are_waited_for(
    kafka_settings: TransportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As KRaft says it while a node that was frozen, or has just started, is not let in."""
    told = "Unable to replicate the partition 1 time(s): All brokers are currently fenced."
    answer = SimpleNamespace(topic_errors=[(kafka_settings.kafka_topic, 38, told)])

    async def refuse(*_: object, **__: object) -> SimpleNamespace:
        return answer

    monkeypatch.setattr(AIOKafkaAdminClient, "create_topics", refuse)
    with pytest.raises(TransportUnavailable, match="not ready yet"):
        async with KafkaTransport(kafka_settings):
            pass


async def _config(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((_code, _message, _kind, _name, entries),) = response.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_a_command_that_only_looks_makes_no_topics(kafka_settings: TransportSettings) -> None:
    with pytest.raises(ConfigurationError, match=f"topic {kafka_settings.kafka_topic}, holds no"):
        await must_exist("kafka", kafka_settings)
    with pytest.raises(ConfigurationError, match="holds no log of Crossfade"):
        await must_exist("kafka", kafka_settings)
    async with KafkaTransport(kafka_settings):
        await must_exist("kafka", kafka_settings)
