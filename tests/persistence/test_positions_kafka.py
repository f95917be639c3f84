"""Offsets of Kafka that hold no record, and PostgreSQL's position."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from persistence.worker.recovery.metrics import PositionMetrics
from tests.support.kafka import fresh_settings
from tests.support.kafka_consumers import good
from tests.support.metric_values import value_of
from transport.conformance.member import Member
from transport.contract import WORKER_GROUP, Topic
from transport.kafka import KafkaTransport


class AbortedError(Exception):
    pass


@pytest.fixture
async def log(kafka_node):
    settings = fresh_settings(kafka_node.bootstrap)
    async with KafkaTransport(settings.model_copy(update={"stream_partitions": 1})) as opened:
        yield opened


async def append(producer, topic: str, numbers: range) -> None:
    async with producer.transaction():
        for number in numbers:
            sent = good("c", number)
            await producer.send_and_wait(topic, sent.value, key=sent.key, partition=0)
        if len(numbers) > 2:
            raise AbortedError


async def progress_of(log):
    (progress,) = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return progress


async def move_group(kafka_node, here, offset):
    """As ``kafka-consumer-groups --reset-offsets`` does."""
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka_node.bootstrap, group_id=WORKER_GROUP, enable_auto_commit=False
    ) as other:
        other.assign([here])
        await other.commit({here: offset})


async def test_who_moves_the_group_has_no_partition_wait(
    kafka_node, log, start, database_pool, eventually
):
    """Such as ``kafka-consumer-groups --reset-offsets``, or a release that keeps no position."""
    topic, here = log.location.messages, TopicPartition(log.location.messages, 0)
    running = start(log=log)

    async def rows(count: int) -> bool:
        return await database_pool.fetchval("SELECT count(*) FROM messages") == count

    async with AIOKafkaProducer(
        bootstrap_servers=kafka_node.bootstrap, transactional_id=topic
    ) as producer:
        await append(producer, topic, range(2))
        await eventually(lambda: rows(2), timeout=30)
        await running.stop()
        await append(producer, topic, range(2, 4))  # offsets 3 and 4
        await move_group(kafka_node, here, 6)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_node.bootstrap)
        await admin.start()
        await admin.delete_records({here: RecordsToDelete(before_offset=6)})
        await admin.close()
        assert (await progress_of(log)).acknowledged == ""
        again = start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: rows(3), timeout=30)
    assert again.consumer.status().paused == []
    assert value_of(again.metrics.of(PositionMetrics).lost.labels("kafka", "0")) == 0


@pytest.mark.parametrize("was_claimed", [False, True])
async def test_records_that_somebody_moved_the_group_past_become_rows_in_order(
    kafka_node, log, start, database_pool, eventually, was_claimed
):
    """``--reset-offsets --to-latest`` before a backlog was read, and a worker that died since."""
    topic, here = log.location.messages, TopicPartition(log.location.messages, 0)
    running = start(log=log)

    async def numbers() -> list[str]:
        rows = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
        return [row["client_message_id"] for row in rows]

    async def is_row(number: str) -> bool:
        return number in await numbers()

    async with AIOKafkaProducer(
        bootstrap_servers=kafka_node.bootstrap, transactional_id=topic
    ) as producer:
        await append(producer, topic, range(2))
        await eventually(lambda: is_row("1"), timeout=30)
        await running.stop()
        await append(producer, topic, range(2, 4))  # offsets 3 and 4
        await move_group(kafka_node, here, 6)
        if was_claimed:
            async with Member(log, "dead") as dead:
                await dead.claim(0)
        again = start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: is_row("8"), timeout=30)
    assert await numbers() == ["0", "1", "2", "3", "8"]
    assert again.consumer.status().paused == []


async def test_what_an_aborted_transaction_leaves_behind_is_no_lost_row(
    kafka_node, log, start, database_pool, eventually
):
    """Not even when everything before it is gone."""
    topic = log.location.messages
    running = start(log=log)

    async def rows(count: int) -> bool:
        return await database_pool.fetchval("SELECT count(*) FROM messages") == count

    async def has_passed_the_gap() -> bool:
        progress = await progress_of(log)
        return progress.floor == progress.end

    async with AIOKafkaProducer(
        bootstrap_servers=kafka_node.bootstrap, transactional_id=topic
    ) as producer:
        await append(producer, topic, range(2))
        with pytest.raises(AbortedError):
            await append(producer, topic, range(2, 8))
        await eventually(lambda: rows(2), timeout=30)
        await eventually(has_passed_the_gap, timeout=30)
        await running.stop()
        progress = await progress_of(log)
        assert (progress.acknowledged, int(progress.floor) > 7) == ("1", True)
        everything = RecordsToDelete(before_offset=progress.appended)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_node.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): everything})
        await admin.close()
        again = start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: rows(3), timeout=30)
    assert again.consumer.status().paused == []
    assert value_of(again.metrics.of(PositionMetrics).lost.labels("kafka", "0")) == 0
