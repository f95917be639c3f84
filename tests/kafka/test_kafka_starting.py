"""While a coordinator starts it knows no offsets; that is no group which has read nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from compose.local.kafka import KafkaServer
from tests.support.kafka import fresh_settings, run_kafka
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport

_LARGE = "x" * 4000
_COMMITS = 5_000


async def test_an_answer_without_partitions_is_asked_for_again(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it answers with GROUP_LOAD_IN_PROGRESS, which aiokafka keeps to itself."""
    await kafka_transport.publish(messages(["a"], partition=0, of=kafka_transport))
    whole = AIOKafkaAdminClient.list_consumer_group_offsets
    answers = [{}, {}]

    async def starting(admin: AIOKafkaAdminClient, *arguments: Any, **options: Any) -> Any:
        return answers.pop() if answers else await whole(admin, *arguments, **options)

    monkeypatch.setattr(AIOKafkaAdminClient, "list_consumer_group_offsets", starting)
    progress = await kafka_transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert answers == []
    assert sum(part.lag or 0 for part in progress) == 1


@pytest.mark.chaos
async def test_a_broker_that_starts_forgets_no_group(tmp_path: Path) -> None:
    """It loads for a while what groups have committed. Each answer meanwhile is whole, or none."""
    async with run_kafka(tmp_path) as node:
        settings = fresh_settings(node.bootstrap)
        async with KafkaTransport(settings) as log:
            await log.publish(messages(["a", "b"], partition=0, of=log))
            await _acknowledge_the_first(node, TopicPartition(settings.kafka_topic, 0))
            await node.kill()
            starting = asyncio.create_task(node.start())
            answered = 0
            while answered < 100:
                try:
                    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
                except TransportUnavailable:
                    continue
                assert progress[0].unavailable or progress[0].floor == "0"
                answered += not progress[0].unavailable
            await starting


async def _acknowledge_the_first(node: KafkaServer, at: TopicPartition) -> None:
    """Commit the offset so often, with so much beside it, that it takes seconds to load."""
    client = AIOKafkaConsumer(
        bootstrap_servers=node.bootstrap, group_id=WORKER_GROUP, enable_auto_commit=False
    )
    await client.start()
    client.assign([at])
    for _ in range(_COMMITS):
        await client.commit({at: OffsetAndMetadata(1, _LARGE)})
    await client.stop()
