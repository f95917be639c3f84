"""Offsets of Kafka that hold no record, and PostgreSQL's position."""

from __future__ import annotations

import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.samples import raw_record
from tests.support.kafka import fresh_settings
from tests.support.kafka_consumers import good
from tests.support.kafka_internals import groups_of
from tests.support.metric_values import value_of
from transport.clock import timestamp
from transport.contract import DLQ_GROUP, WORKER_GROUP, DeadLetter, Reason, Topic
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


async def stands_at(database_pool, offset: str) -> bool:
    """Return whether PostgreSQL's position is this one."""
    return await database_pool.fetchval("SELECT through FROM log_positions") == offset


async def move_group(kafka_node, here, offset, group=WORKER_GROUP):
    """As ``kafka-consumer-groups --reset-offsets`` does."""
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka_node.bootstrap, group_id=group, enable_auto_commit=False
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
        await eventually(lambda: rows(2))
        await running.stop()
        await append(producer, topic, range(2, 4))  # offsets 3 and 4
        await move_group(kafka_node, here, 6)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_node.bootstrap)
        await admin.start()
        await admin.delete_records({here: RecordsToDelete(before_offset=6)})
        await admin.close()
        again = start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: rows(3))
    assert again.consumer.status().paused == []


async def test_records_that_somebody_moved_the_group_past_become_rows_in_order(
    kafka_node, log, start, database_pool, eventually
):
    """``--reset-offsets --to-latest`` before a backlog was read."""
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
        await eventually(lambda: is_row("1"))
        await running.stop()
        await append(producer, topic, range(2, 4))  # offsets 3 and 4
        await move_group(kafka_node, here, 6)
        again = start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: is_row("8"))
    assert await numbers() == ["0", "1", "2", "3", "8"]
    assert again.consumer.status().paused == []


async def test_a_group_that_was_set_past_the_end_counts_no_loss(
    kafka_node, log, start, database_pool, eventually
):
    topic, here = log.location.messages, TopicPartition(log.location.messages, 0)
    running = start(log=log)

    async def is_row(number: int) -> bool:
        rows = await database_pool.fetch("SELECT client_message_id FROM messages")
        return str(number) in {row["client_message_id"] for row in rows}

    async with AIOKafkaProducer(
        bootstrap_servers=kafka_node.bootstrap, transactional_id=topic
    ) as producer:
        await append(producer, topic, range(2))
        await eventually(lambda: is_row(1))
        await running.stop()
        await move_group(kafka_node, here, 100_000)
        start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: is_row(8))
    assert (await progress_of(log)).lost == 0


@pytest.mark.parametrize("unread_expired", [False, True])
async def test_what_expired_unread_is_told_though_the_groups_offsets_expired_too(
    kafka_node, database_pool, start, eventually, unread_expired
):
    """Offsets of a group without members are kept for a week, as records are: they go first."""
    settings = fresh_settings(kafka_node.bootstrap)
    own = {"stream_partitions": 1, "kafka_group_prefix": settings.kafka_topic}
    async with (
        KafkaTransport(settings.model_copy(update=own)) as log,
        AIOKafkaProducer(bootstrap_servers=kafka_node.bootstrap) as producer,
    ):
        topic, here = log.location.messages, TopicPartition(log.location.messages, 0)

        async def post(*numbers: int) -> None:
            for number in numbers:
                sent = good("c", number)
                await producer.send_and_wait(topic, sent.value, key=sent.key, partition=0)

        async def rows() -> list[str]:
            found = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
            return [row["client_message_id"] for row in found]

        async def is_row(number: str) -> bool:
            return number in await rows()

        def told(worker) -> float:
            return value_of(worker.metrics.of(PositionMetrics).rows_lost.labels("kafka"))

        running = start(log=log)
        await post(0, 1)
        await eventually(lambda: is_row("1"))
        await running.stop()
        await post(2, 3, 4)
        if unread_expired:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka_node.bootstrap)
            await admin.start()
            await admin.delete_records({here: RecordsToDelete(before_offset=5)})
            await admin.close()
        await groups_of(log).forget(f"{settings.kafka_topic}{WORKER_GROUP}")
        again = start(log=log, member="w2")
        await eventually(lambda: stands_at(database_pool, "4"))
        await again.stop()
        last = start(log=log, member="w3")
        await post(5)
        await eventually(lambda: is_row("5"))
        assert await rows() == (list("015") if unread_expired else list("012345"))
        assert (told(again), told(last)) == (float(unread_expired), 0.0), "told once"
        assert last.consumer.status().paused == []


async def test_letters_that_somebody_moved_the_group_past_are_listed_in_order(
    kafka_node, start, database_pool, eventually
):
    """``--reset-offsets --to-latest`` for all groups, while no worker runs."""
    settings = fresh_settings(kafka_node.bootstrap)
    own = {"stream_partitions": 1, "kafka_group_prefix": settings.kafka_topic}
    async with KafkaTransport(settings.model_copy(update=own)) as log:
        here = TopicPartition(log.location.dead_letters, 0)

        async def fail(*bodies: bytes) -> None:
            at = timestamp(time.time())
            await log.dead_letter(
                [DeadLetter(raw_record(b), Reason.UNDECODABLE, "not ours", 1, at) for b in bodies]
            )

        async def listed() -> bytes:
            found = await database_pool.fetch("SELECT body FROM dead_letters ORDER BY id")
            return b"".join(row["body"] for row in found)

        async def are_listed(bodies: bytes) -> bool:
            return await listed() == bodies

        await fail(b"a", b"b")
        running = start(DeadLetterIndexer, log=log)
        await eventually(lambda: are_listed(b"ab"))
        await running.stop()
        await fail(b"c", b"d")
        await move_group(kafka_node, here, 4, f"{settings.kafka_topic}{DLQ_GROUP}")
        again = start(DeadLetterIndexer, "w2", log=log)
        await fail(b"e")
        await eventually(lambda: are_listed(b"abcde"))
        assert value_of(again.metrics.of(PositionMetrics).rows_lost.labels("kafka")) == 0


async def test_what_left_another_log_before_it_was_read_is_not_told(
    kafka_node, log, database_pool, start, eventually
):
    """The address led to another cluster, or the topic was made anew."""

    async def count() -> int:
        return await database_pool.fetchval("SELECT count(*) FROM messages")

    async def post(topic: str, number: int) -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka_node.bootstrap) as producer:
            sent = good("c", number)
            await producer.send_and_wait(topic, sent.value, key=sent.key, partition=0)

    async def is_stored(rows: int) -> bool:
        return await count() == rows

    running = start(log=log)
    await post(log.location.messages, 0)
    await post(log.location.messages, 1)
    await eventually(lambda: is_stored(2))
    await running.stop()
    settings = fresh_settings(kafka_node.bootstrap)
    other = KafkaTransport(settings.model_copy(update={"stream_partitions": 1}))
    async with other:
        await post(other.location.messages, 2)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_node.bootstrap)
        await admin.start()
        here = TopicPartition(other.location.messages, 0)
        await admin.delete_records({here: RecordsToDelete(before_offset=1)})
        await admin.close()
        for member in ("w2", "w3"):
            again = start(log=other, member=member)
            await eventually(lambda: stands_at(database_pool, "0"))
            await again.stop()
            assert value_of(again.metrics.of(PositionMetrics).rows_lost.labels("kafka")) == 0
        last = start(log=other, member="w4")
        await post(other.location.messages, 3)
        await eventually(lambda: is_stored(3))
        assert value_of(last.metrics.of(PositionMetrics).rows_lost.labels("kafka")) == 0


async def test_what_an_aborted_transaction_leaves_behind_holds_up_no_partition(
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
        await eventually(lambda: rows(2))
        await eventually(has_passed_the_gap)
        await running.stop()
        progress = await progress_of(log)
        assert int(progress.floor) > 7
        everything = RecordsToDelete(before_offset=progress.appended)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_node.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): everything})
        await admin.close()
        again = start(log=log, member="w2")
        await append(producer, topic, range(8, 9))
        await eventually(lambda: rows(3))
    assert again.consumer.status().paused == []
