"""Two logs in one Kafka, used by one process: neither knows of the other."""

from __future__ import annotations

from functools import partial

from aiokafka.admin import AIOKafkaAdminClient

from transport.clock import now
from transport.conformance.member import ConformanceWorker, Member, contents, drain, messages, until
from transport.contract import DLQ_GROUP, WORKER_GROUP, DeadLetter, Reason, Topic, Transport
from transport.kafka import KafkaTransport
from transport.registry import create
from transport.settings import TransportSettings


async def test_each_has_topics_groups_and_static_members_of_its_own(
    kafka_settings: TransportSettings,
) -> None:
    """With members of the same names, as the processes of a migration have them."""
    settings = kafka_settings.model_copy(update={"kafka_group_instance_id": "pod-0"})
    async with KafkaTransport(settings) as small, create("kafka@6", settings) as large:
        logs = (small, large)
        assert (small.name, large.name, large.system) == ("kafka", "kafka@6", "kafka")
        assert large.location.messages == f"{small.location.messages}.6"
        assert large.location.dead_letters == f"{small.location.dead_letters}.6"
        assert await small.identity() != await large.identity()
        workers = [ConformanceWorker(log, "same") for log in logs]
        async with workers[0].working(), workers[1].working():
            for log in logs:
                texts = [f"{log.name} {i}" for i in range(20)]
                await log.publish(messages(texts, partition=3, of=log))
            for log, worker in zip(logs, workers, strict=True):
                await until(lambda w=worker: len(w.records) == 20, patience=30.0)  # type: ignore[misc]
                assert contents(worker.records) == [f"{log.name} {i}" for i in range(20)]
                await until(
                    lambda w=worker, n=log.partitions: len(w.owned) == n,  # type: ignore[misc]
                    patience=30.0,
                )
                await until(partial(_is_worked_off, log), patience=30.0)
            (record, *_) = await large.read(Topic.MESSAGES, 3)
            await large.dead_letter([DeadLetter(record, Reason.REJECTED, "no", 1, now())])
            assert not await small.read(Topic.DEAD_LETTERS, 0)
            assert len(await large.read(Topic.DEAD_LETTERS, 0)) == 1
            assert await _members(settings, WORKER_GROUP, f"{WORKER_GROUP}.6") == [1, 1]
        (letters,) = await large.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        assert letters.lag == 1


async def _is_worked_off(log: Transport) -> bool:
    """Whether all is acknowledged, which a worker does after it has a record."""
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return all(part.lag == 0 for part in progress)


async def test_one_log_is_removed_and_the_other_stays(kafka_settings: TransportSettings) -> None:
    async with KafkaTransport(kafka_settings) as small, create("kafka@6", kafka_settings) as large:
        for log in (small, large):
            await log.publish(messages(["a", "b"], partition=3, of=log))
            async with Member(log) as member:
                claim = await member.claim(3)
                (first, *_) = await drain(claim, 2, patience=30.0)
                await claim.ack(first.offset)
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


async def _members(settings: TransportSettings, *groups: str) -> list[int]:
    """Return how many members each group has."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        described = [await admin.describe_consumer_groups([group]) for group in groups]
        return [len(answer.groups[0][5]) for (answer,) in described]
    finally:
        await admin.close()
