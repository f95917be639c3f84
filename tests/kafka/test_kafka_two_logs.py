"""Two logs in one Kafka, used by one process: neither knows of the other."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

from tests.support.first_records import first_records
from transport.clock import now
from transport.conformance.envelopes import contents, messages
from transport.contract import DLQ_GROUP, WORKER_GROUP, DeadLetter, Reason, Topic, Transport
from transport.kafka import KafkaTransport
from transport.registry import create
from transport.settings import TransportSettings


async def test_each_has_topics_and_groups_of_its_own(
    kafka_settings: TransportSettings,
) -> None:
    async with KafkaTransport(kafka_settings) as small, create("kafka@6", kafka_settings) as large:
        logs = (small, large)
        assert (small.name, large.name, large.system) == ("kafka", "kafka@6", "kafka")
        assert large.location.messages == f"{small.location.messages}.6"
        assert large.location.dead_letters == f"{small.location.dead_letters}.6"
        assert await small.identity() != await large.identity()
        for log in logs:
            texts = [f"{log.name} {i}" for i in range(20)]
            await log.publish(messages(texts, partition=3, of=log))
        for log in logs:
            records = await first_records(log, 20, partition=3)
            assert contents(records) == [f"{log.name} {i}" for i in range(20)]
            await log.publish_positions(Topic.MESSAGES, {3: records[-1].offset}, group=WORKER_GROUP)
            assert await _lag(log) == 0
        await small.publish_positions(Topic.MESSAGES, {3: records[4].offset}, group=WORKER_GROUP)
        assert [await _lag(log) for log in logs] == [15, 0]
        (record, *_) = records
        await large.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
        assert not await small.read(Topic.DEAD_LETTERS, 0)
        assert len(await large.read(Topic.DEAD_LETTERS, 0)) == 1
        (letters,) = await large.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        assert letters.lag == 1


async def _lag(log: Transport) -> int:
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return sum(part.lag or 0 for part in progress)


async def test_one_log_is_removed_and_the_other_stays(kafka_settings: TransportSettings) -> None:
    async with KafkaTransport(kafka_settings) as small, create("kafka@6", kafka_settings) as large:
        for log in (small, large):
            await log.publish(messages(["a", "b"], partition=3, of=log))
            await log.publish_positions(Topic.MESSAGES, {3: "0"}, group=WORKER_GROUP)
        stays = await _state(large)
        # A test before this one may have left the other group: all tests of a worker share a Kafka.
        groups = {WORKER_GROUP, DLQ_GROUP} & await _names(kafka_settings)
        removed = await small.remove()
        assert {(holding.kind, holding.name, holding.records) for holding in removed} == {
            ("topic", small.location.messages, 2),
            ("topic", small.location.dead_letters, 0),
            *(("group", group, None) for group in groups),
        }
        assert WORKER_GROUP in groups
        assert await _state(large) == stays
    left = await _names(kafka_settings)
    assert {large.location.messages, large.location.dead_letters, f"{WORKER_GROUP}.6"} <= left
    assert not {small.location.messages, small.location.dead_letters, *groups} & left


async def _state(log: Transport) -> object:
    (worker, *_) = [group for group in await log.groups() if group.ours]
    assert worker.lag == 1
    records = [
        (record.offset, record.body, record.headers) for record in await log.read(Topic.MESSAGES, 3)
    ]
    return await log.identity(), records, await log.groups()


async def _names(settings: TransportSettings) -> set[str]:
    """Return the topics and the groups that there are."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        groups = [name for name, _ in await admin.list_consumer_groups()]
        return {*await admin.list_topics(), *groups}
    finally:
        await admin.close()
