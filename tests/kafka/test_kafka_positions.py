"""Positions that PostgreSQL keeps, shown as the committed offsets of a group without members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.support.eventually import eventually
from tests.support.kafka import KafkaNode, delete_topics, fresh_settings, run_kafka
from tests.support.kafka_damage import cut_tail
from transport.clock import now
from transport.conformance.envelopes import message, messages
from transport.conformance.reader import ConformanceReader
from transport.contract import (
    DLQ_GROUP,
    WORKER_GROUP,
    DeadLetter,
    Progress,
    Reason,
    Record,
    Topic,
)
from transport.errors import TransportError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


@pytest_asyncio.fixture
async def admin(kafka_settings: TransportSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Another program's client, as kafka-consumer-groups.sh is one."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_settings.kafka_bootstrap_servers)
    await client.start()
    yield client
    await client.close()


def _group(settings: TransportSettings, group: str = WORKER_GROUP) -> str:
    return f"{settings.kafka_group_prefix or ''}{group}"


async def _offsets(
    admin: AIOKafkaAdminClient, settings: TransportSettings, group: str = WORKER_GROUP
) -> dict[tuple[str, int], int]:
    """Return the committed offsets of our topics, as Kafka's tools show them."""
    found = await admin.list_consumer_group_offsets(_group(settings, group))
    ours = (settings.kafka_topic, settings.kafka_dlq_topic)
    return {(at.topic, at.partition): of.offset for at, of in found.items() if at.topic in ours}


async def _progress(
    transport: KafkaTransport, partition: int = 0, topic: Topic = Topic.MESSAGES
) -> Progress:
    group = WORKER_GROUP if topic is Topic.MESSAGES else DLQ_GROUP
    return (await transport.progress(topic, group=group))[partition]


async def _publish(transport: KafkaTransport, positions: dict[int, str]) -> None:
    await transport.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)


async def test_kafkas_tools_and_progress_show_the_positions(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    for partition in (0, 2):
        await kafka_transport.publish(
            messages(list("abc"), partition=partition, of=kafka_transport)
        )
    await _publish(kafka_transport, {0: "2", 2: "0"})
    topic = kafka_settings.kafka_topic
    assert await _offsets(admin, kafka_settings) == {(topic, 0): 3, (topic, 2): 1}
    all_done, behind = await _progress(kafka_transport, 0), await _progress(kafka_transport, 2)
    assert (all_done.lag, all_done.floor) == (0, "2")
    assert (behind.lag, behind.floor) == (2, "0")
    assert (all_done.lost, behind.lost) == (0, 0)
    unread = await _progress(kafka_transport, 1)
    assert (unread.lag, unread.floor) == (0, None)
    groups = await kafka_transport.groups()
    (ours,) = [each for each in groups if each.ours and each.topic is Topic.MESSAGES]
    assert (ours.lag, ours.members) == (2, 0)


async def test_dead_letters_have_their_own_group(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    await kafka_transport.publish(messages(list("ab"), partition=0, of=kafka_transport))
    records = await kafka_transport.read(Topic.MESSAGES, 0)
    for record in records:
        await kafka_transport.dead_letter([_letter(record)])
    letters = await kafka_transport.read(Topic.DEAD_LETTERS, 0, wait=10.0)
    for lag, letter in ((1, letters[0]), (0, letters[-1])):
        await kafka_transport.publish_positions(
            Topic.DEAD_LETTERS, {0: letter.offset}, group=DLQ_GROUP
        )
        progress = await _progress(kafka_transport, topic=Topic.DEAD_LETTERS)
        assert (progress.lag, progress.floor) == (lag, letter.offset)
    dlq = kafka_settings.kafka_dlq_topic
    assert await _offsets(admin, kafka_settings, DLQ_GROUP) == {(dlq, 0): 2}
    assert await _offsets(admin, kafka_settings, WORKER_GROUP) == {}


async def test_an_older_position_moves_the_group_back(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    await kafka_transport.publish(messages(list("abcd"), partition=0, of=kafka_transport))
    for position, lag in (("3", 0), ("1", 2), ("1", 2), ("3", 0)):
        await _publish(kafka_transport, {0: position})
        progress = await _progress(kafka_transport)
        assert (progress.lag, progress.floor, progress.lost) == (lag, position, 0)
    assert set((await _offsets(admin, kafka_settings)).values()) == {4}


async def test_records_that_were_removed_before_the_position_passed_them_are_lost(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    await kafka_transport.publish(messages(list("abcdef"), partition=0, of=kafka_transport))
    await _publish(kafka_transport, {0: "0"})
    at = TopicPartition(kafka_settings.kafka_topic, 0)
    await admin.delete_records({at: RecordsToDelete(before_offset=4)})
    assert ((await _progress(kafka_transport)).lag, (await _progress(kafka_transport)).lost) == (
        2,
        3,
    )
    for position in ("4", "5", "5"):
        await _publish(kafka_transport, {0: position})
        progress = await _progress(kafka_transport)
        assert (progress.floor, progress.lost) == (position, 3), "counted once"
        assert progress.lost_at is not None


async def test_a_position_beyond_the_end_is_no_loss_each_time(
    kafka_transport: KafkaTransport,
) -> None:
    """A log was made anew, or lost its tail, and PostgreSQL's position is of before."""
    await kafka_transport.publish(messages(list("ab"), partition=0, of=kafka_transport))
    for _ in range(3):
        await _publish(kafka_transport, {0: "7"})
        progress = await _progress(kafka_transport)
        assert (progress.lag, progress.floor, progress.lost) == (0, "1", 0)


async def test_unread_records_of_a_deleted_topic_are_lost(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    await kafka_transport.publish(messages(list("abc"), partition=0, of=kafka_transport))
    await _publish(kafka_transport, {0: "0"})
    await delete_topics(kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic)
    async with KafkaTransport(kafka_settings) as other:  # it makes the topic again
        await eventually(lambda: _is_appended(other, "new"))
    await eventually(lambda: _is_published(kafka_transport, {0: "0"}))
    progress = await _progress(kafka_transport)
    assert (progress.lag, progress.floor, progress.lost) == (0, "0", 2)


@pytest.mark.parametrize("client", ["stranger", "host-7-0a1b2c"], ids=["program", "old worker"])
async def test_a_member_of_the_group_is_named(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, client: str
) -> None:
    """Nothing else is disturbed by it, and the positions follow once it has left.

    Workers from before migration 0030 are members too, and no other program.
    """
    await kafka_transport.publish(messages(list("ab"), partition=0, of=kafka_transport))
    group = _group(kafka_settings)
    async with AIOKafkaConsumer(
        kafka_settings.kafka_topic,
        bootstrap_servers=kafka_settings.kafka_bootstrap_servers,
        group_id=group,
        client_id=client,
        enable_auto_commit=False,
    ) as member:
        await eventually(member.assignment)
        with pytest.raises(TransportError, match=f"group {group}: it has a member") as refused:
            await _publish(kafka_transport, {0: "1"})
        assert not isinstance(refused.value, TransportUnavailable)
        assert "processed all the same" in str(refused.value)
        assert "Stop a worker of an earlier version" in str(refused.value)
        assert f"--describe --members --group {group}" in str(refused.value)
        assert len(await kafka_transport.read(Topic.MESSAGES, 0, wait=10.0)) == 2
    await _publish(kafka_transport, {0: "1"})
    assert (await _progress(kafka_transport)).lag == 0


async def test_an_offset_that_is_none_is_refused(kafka_transport: KafkaTransport) -> None:
    with pytest.raises(ValueError, match="no offset"):
        await _publish(kafka_transport, {0: "1-0"})
    await _publish(kafka_transport, {})


async def test_it_is_unavailable_without_its_broker(kafka_server: KafkaNode) -> None:
    async with KafkaTransport(fresh_settings(kafka_server.bootstrap)) as transport:
        await transport.publish([message("a", partition=0, of=transport)])
        await _publish(transport, {0: "0"})
        await kafka_server.stop()
        with pytest.raises(TransportUnavailable):
            await _publish(transport, {0: "0"})
        await kafka_server.start()
        await eventually(lambda: _is_published(transport, {0: "0"}))
        assert (await _progress(transport)).lag == 0


def _letter(record: Record) -> DeadLetter:
    return DeadLetter(record, Reason.REJECTED, "no", 1, now())


async def _is_appended(transport: KafkaTransport, text: str) -> bool:
    (outcome,) = await transport.publish([message(text, partition=0, of=transport)])
    return not isinstance(outcome, Exception)


async def _is_published(transport: KafkaTransport, positions: dict[int, str]) -> bool:
    try:
        await _publish(transport, positions)
    except TransportError:
        return False
    return True


async def test_a_tail_that_the_log_lost_is_counted_once(tmp_path: Path) -> None:
    """A published position has no digest of its record: the end that was seen shows the loss."""
    async with run_kafka(tmp_path) as server:
        settings = fresh_settings(server.bootstrap)
        async with KafkaTransport(settings) as transport:
            for text in "abcdefgh":  # a batch each
                await transport.publish([message(text, partition=0, of=transport)])
            await _publish(transport, {0: "5"})
        await server.kill()
        cut_tail(server, settings.kafka_topic, 0, end=4)
        await server.start()
        async with KafkaTransport(settings) as transport:
            progress = await _progress(transport)
            assert (progress.lag, progress.floor) == (0, "3")
            assert progress.lost == 4
            for position in ("5", "5", "3"):
                await _publish(transport, {0: position})
                progress = await _progress(transport)
                assert (progress.lag, progress.floor, progress.lost) == (0, "3", 4)
            await transport.publish([message("new", partition=0, of=transport)])
            assert (await _progress(transport)).lag == 1


async def test_partitions_that_an_operator_added_are_read_and_shown(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings, admin: AIOKafkaAdminClient
) -> None:
    """Other producers append to them: Crossfade keeps to the number of its setting."""
    topic, count = kafka_settings.kafka_topic, kafka_transport.partitions
    assert await kafka_transport.surplus() == []
    await admin.create_partitions({topic: NewPartitions(total_count=count + 2)})

    async def is_found() -> bool:
        return list(await kafka_transport.surplus()) == [count, count + 1]

    await eventually(is_found)
    reader = ConformanceReader(kafka_transport, count + 1)
    async with (
        reader.reading(),
        AIOKafkaProducer(bootstrap_servers=kafka_settings.kafka_bootstrap_servers) as producer,
    ):
        for body in (b"a", b"b"):
            await producer.send_and_wait(topic, body, partition=count + 1)
        await eventually(lambda: [it.body for it in reader.records] == [b"a", b"b"])
    assert await kafka_transport.read(Topic.MESSAGES, count + 1) == reader.records
    assert await kafka_transport.read_back(Topic.MESSAGES, count + 1) == reader.records
    await _publish(kafka_transport, {count + 1: "0"})
    assert await _offsets(admin, kafka_settings) == {(topic, count + 1): 1}
