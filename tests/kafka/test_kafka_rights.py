"""A broker that forbids all that it does not allow, and one that slows us down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from otel.append_metrics import count_throttled
from otel.metrics import Metrics
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka import TOPICS, fresh_settings, run_kafka
from tests.support.kafka_internals import producer_of
from tests.support.kafka_rights import (
    AUTHORIZER,
    GROUP_RIGHTS,
    TOPIC_RIGHTS,
    Grant,
    Operation,
    Resource,
    allow,
    limit_rates,
)
from tests.support.kafka_security import Security
from transport.clock import now
from transport.conformance.envelopes import contents, messages
from transport.contract import DLQ_GROUP, WORKER_GROUP, Appended, DeadLetter, Reason, Record, Topic
from transport.errors import ConfigurationError, TransportUnavailable, Unwritable
from transport.features.throttling import throttled_lately
from transport.kafka import KafkaTransport
from transport.rights import LackingRights
from transport.settings import TransportSettings

_RETIRING = (Operation.DELETE,)


def _grants(server: KafkaServer, prefix: str, *, delete: bool = False) -> list[Grant]:
    """Return the rights that docs/managed_kafka.md asks for."""
    user = server.security.username
    more = _RETIRING if delete else ()
    return [
        *(Grant(user, Resource.TOPIC, prefix, operation) for operation in (*TOPIC_RIGHTS, *more)),
        *(Grant(user, Resource.GROUP, prefix, operation) for operation in (*GROUP_RIGHTS, *more)),
    ]


@pytest_asyncio.fixture(scope="module")
async def denying(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaServer]:
    folder = tmp_path_factory.mktemp("denying")
    security = Security.with_password("SASL_PLAINTEXT", "PLAIN")
    async with run_kafka(folder, security=security, config=AUTHORIZER) as server:
        yield server


def _settings(server: KafkaServer, prefix: str, **changes: Any) -> TransportSettings:
    security = server.security
    given = {
        "kafka_security_protocol": security.protocol,
        "kafka_sasl_mechanism": security.mechanism,
        "kafka_sasl_username": security.username,
        "kafka_sasl_password": security.password,
        "kafka_topic": f"{prefix}stream",
        "kafka_dlq_topic": f"{prefix}dlq",
        "kafka_group_prefix": prefix,
    }
    return fresh_settings(server.bootstrap, **given | changes)


async def test_the_rights_that_are_documented_are_enough(denying: KafkaServer) -> None:
    prefix = f"{TOPICS}least."
    await allow(denying, _grants(denying, prefix))
    async with KafkaTransport(_settings(denying, prefix)) as log:
        await log.identity()
        await log.durability()
        await log.ping()
        outcomes = await log.publish(messages(["a", "b"], partition=0, of=log))
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        first, second = await first_records(log, 2)
        await log.dead_letter([DeadLetter(first, Reason.REJECTED, "no", 1, now())])
        await log.publish_positions(Topic.MESSAGES, {0: second.offset}, group=WORKER_GROUP)
        assert [part.lag for part in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)] == [
            0
        ] * log.partitions
        (letters,) = await log.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        assert letters.lag == 1
        assert {standing.group for standing in await log.groups() if standing.ours} == {
            f"{prefix}{WORKER_GROUP}"
        }
        with pytest.raises(TransportUnavailable, match="access rules forbid it"):
            await log.remove()


async def test_a_log_is_removed_by_a_user_who_may_delete(denying: KafkaServer) -> None:
    prefix = f"{TOPICS}removed."
    await allow(denying, _grants(denying, prefix, delete=True))
    async with KafkaTransport(_settings(denying, prefix)) as log:
        await log.publish(messages(["a"], partition=0, of=log))
        removed = await log.remove()
    assert {(holding.kind, holding.name) for holding in removed} == {
        ("topic", f"{prefix}stream"),
        ("topic", f"{prefix}dlq"),
    }


async def test_what_is_not_allowed_is_told(denying: KafkaServer) -> None:
    with pytest.raises(ConfigurationError, match="access rules forbid it"):
        async with KafkaTransport(_settings(denying, f"{TOPICS}forbidden.")):
            pass


async def test_what_a_first_start_would_lack_is_foreseen_and_nothing_is_made(
    denying: KafkaServer,
) -> None:
    prefix = f"{TOPICS}foreseen."
    log = KafkaTransport(_settings(denying, prefix))
    with pytest.raises(ConfigurationError, match="access rules forbid it"):
        await log.first_start()
    await allow(denying, [g for g in _grants(denying, prefix) if g.resource is Resource.TOPIC])
    told = (await log.first_start()).rights
    assert told is not None
    assert [right.rpartition(" on ")[2] for right in told.needed] == [
        f"group {prefix}{group}" for group in (WORKER_GROUP, DLQ_GROUP) for _ in GROUP_RIGHTS
    ]
    assert not await log.exists()
    await allow(denying, _grants(denying, prefix))
    assert (await log.first_start()).rights is None


async def test_a_group_that_is_not_allowed_is_told(denying: KafkaServer) -> None:
    prefix = f"{TOPICS}half."
    await allow(denying, [g for g in _grants(denying, prefix) if g.resource is Resource.TOPIC])
    async with KafkaTransport(_settings(denying, prefix)) as log:
        (outcome,) = await log.publish(messages(["a"], partition=0, of=log))
        assert isinstance(outcome, Appended)
        first, *others = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (first.end, first.lag, first.floor) == ("0", None, None), "unknown is not zero"
        assert {(it.end, it.lag) for it in others} == {(None, None)}
        with pytest.raises(TransportUnavailable, match="access rules forbid it"):
            await log.publish_positions(Topic.MESSAGES, {0: "0"}, group=WORKER_GROUP)


@pytest.mark.parametrize(
    ("resource", "operation", "lacking"),
    [
        (Resource.TOPIC, Operation.WRITE, "Write on topic {0}stream, Write on topic {0}dlq"),
        (Resource.TOPIC, Operation.READ, "Read on topic {0}stream, Read on topic {0}dlq"),
        (
            Resource.GROUP,
            Operation.READ,
            f"Read on group {{0}}{WORKER_GROUP}, Read on group {{0}}{DLQ_GROUP}",
        ),
    ],
)
async def test_what_is_not_allowed_is_known_before_the_first_message(
    denying: KafkaServer, resource: Resource, operation: Operation, lacking: str
) -> None:
    """The log is opened without it, and ``crossfade doctor`` tells what our user lacks."""
    prefix = f"{TOPICS}no-{resource.name}-{operation.name}.".lower()
    grants = _grants(denying, prefix)
    given = [it for it in grants if (it.resource, it.operation) != (resource, operation)]
    # A user who may write to no topic at all gets no further than the number of its producer.
    elsewhere = Grant(
        denying.security.username, Resource.TOPIC, f"{TOPICS}elsewhere.", Operation.WRITE
    )
    await allow(denying, [*given, elsewhere])
    async with KafkaTransport(_settings(denying, prefix)) as log:
        told = await log.lacking_rights()
        assert told is not None
        assert ", ".join(told.needed) == lacking.format(prefix)
        await allow(denying, grants)
        assert await log.lacking_rights() == LackingRights(needed=[])


async def test_a_topic_that_we_may_not_write_to_hurts_no_other(denying: KafkaServer) -> None:
    """The producer stays: in its place, batches of all topics and partitions would fail too."""
    prefix = f"{TOPICS}letters."
    grants = _grants(denying, prefix)
    rights = [it for it in grants if it.operation is not Operation.WRITE]
    user = denying.security.username
    await allow(denying, [*rights, Grant(user, Resource.TOPIC, f"{prefix}stream", Operation.WRITE)])
    async with KafkaTransport(_settings(denying, prefix)) as log:
        producer, texts = producer_of(log), list[str]()
        for text in ("a", "b", "c"):
            (outcome,) = await log.publish(messages([text], partition=0, of=log))
            assert isinstance(outcome, Appended)
            texts.append(text)
            (record,) = (await first_records(log, len(texts)))[-1:]
            letter = DeadLetter(record, Reason.REJECTED, "no", 1, now())
            with pytest.raises(TransportUnavailable, match=rf"rules forbid it.*{prefix}dlq"):
                await log.dead_letter([letter])
            assert producer_of(log) is producer
            await log.ping()
        await allow(denying, grants)

        async def is_taken() -> bool:
            try:
                await log.dead_letter([letter])
            except TransportUnavailable:
                return False
            return True

        await eventually(is_taken)
        assert producer_of(log) is producer
        assert contents(await log.read(Topic.MESSAGES, 0)) == texts
        assert len(await log.read(Topic.DEAD_LETTERS, 0)) == 1


async def test_without_the_right_to_write_the_log_is_not_ready_until_it_is_given(
    denying: KafkaServer,
) -> None:
    """Without a further append: a load balancer sends none to a process that is not ready."""
    prefix = f"{TOPICS}messages."
    grants = _grants(denying, prefix)
    rights = [it for it in grants if it.operation is not Operation.WRITE]
    user = denying.security.username
    await allow(denying, [*rights, Grant(user, Resource.TOPIC, f"{prefix}dlq", Operation.WRITE)])
    large = [f"{number} {'x' * 100_000}" for number in range(3)]  # each is a batch
    async with KafkaTransport(_settings(denying, prefix)) as log:
        producer = producer_of(log)
        for _ in range(2):
            outcomes = await log.publish(messages(large, partition=0, of=log))
            assert {type(outcome) for outcome in outcomes} == {TransportUnavailable}
            assert all(f"{prefix}stream" in str(outcome) for outcome in outcomes)
            with pytest.raises(Unwritable, match=f"allow our user Write on topic {prefix}stream"):
                await log.ping()
        assert producer_of(log) is producer
        await allow(denying, grants)

        async def is_ready() -> bool:
            try:
                await log.ping()
            except Unwritable:
                return False
            return True

        await eventually(is_ready)
        outcomes = await log.publish(messages(large, partition=0, of=log))
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        assert producer_of(log) is producer
        assert contents(await log.read(Topic.MESSAGES, 0)) == large


async def test_records_are_read_without_rights_on_the_group_and_positions_are_shown_later(
    denying: KafkaServer,
) -> None:
    """The group only shows positions."""
    prefix = f"{TOPICS}groupless."
    grants = _grants(denying, prefix)
    await allow(denying, [it for it in grants if it.resource is not Resource.GROUP])
    async with KafkaTransport(_settings(denying, prefix)) as log:
        await log.publish(messages(["a", "b"], partition=0, of=log))
        records = await first_records(log, 2)
        positions = {0: records[-1].offset}
        with pytest.raises(TransportUnavailable, match="rules forbid it"):
            await log.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
        (record,) = await first_records(log, 1, after=records[0].offset)
        assert contents([record]) == ["b"]
        await log.ping()
        await allow(denying, grants)

        async def is_shown() -> bool:
            try:
                await log.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)
            except TransportUnavailable:
                return False
            return True

        await eventually(is_shown)


async def test_a_user_who_may_write_nowhere_is_told(tmp_path: Path) -> None:
    security = Security.with_password("SASL_PLAINTEXT", "PLAIN")
    async with run_kafka(tmp_path, security=security, config=AUTHORIZER) as server:
        prefix = f"{TOPICS}reader."
        grants = _grants(server, prefix)
        await allow(server, [it for it in grants if it.operation is not Operation.WRITE])
        with pytest.raises(ConfigurationError, match="allow our user Write on the topics"):
            async with KafkaTransport(_settings(server, prefix)):
                pass


async def test_two_installations_on_one_cluster_keep_to_their_own_groups(
    denying: KafkaServer,
) -> None:
    names = [f"{TOPICS}team-a.", f"{TOPICS}team-b."]
    for name in names:
        await allow(denying, _grants(denying, name))
    one, other = (KafkaTransport(_settings(denying, name)) for name in names)
    async with one, other:
        for log in (one, other):
            await log.publish(messages([log.location.messages], partition=0, of=log))
        for log in (one, other):
            records = await first_records(log, 1)
            assert contents(records) == [log.location.messages]
            await log.publish_positions(Topic.MESSAGES, {0: "0"}, group=WORKER_GROUP)
        for log, name in ((one, names[0]), (other, names[1])):
            found = {it.group for it in await log.groups() if it.topic is Topic.MESSAGES}
            assert found == {f"{name}{WORKER_GROUP}"}


async def test_nothing_is_sent_to_a_broker_whose_quota_is_used_up(
    denying: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """KIP-219: it says for how long, and a client that goes on sending is no better than a flood.

    Its quota is for 11 s together, so 100 KB at 5 KB/s is some 9 s too soon.
    """
    prefix = f"{TOPICS}slow."
    await allow(denying, _grants(denying, prefix))
    settings = _settings(denying, prefix, kafka_timeout_ms=1000)
    user = denying.security.username
    texts: list[str] = []
    metrics = Metrics()
    async with KafkaTransport(settings) as log:
        count_throttled(metrics, log)
        assert throttled_lately([log]) == {}

        async def refused() -> str | None:
            """Send 100 KB, then one message; return why that was not sent, if it was not."""
            sent = [f"{number} {'x' * 20_000}" for number in range(5)]
            outcomes = await log.publish(messages(sent, partition=0, of=log))
            assert all(isinstance(outcome, Appended) for outcome in outcomes)
            texts.extend(sent)
            (outcome,) = await log.publish(messages(["too soon"], partition=0, of=log))
            if type(outcome) is TransportUnavailable:
                return str(outcome)
            texts.append("too soon")
            return None

        await limit_rates(denying, user, {"producer_byte_rate": 5_000.0})
        try:
            why = await eventually(refused)  # the broker hears of it a moment later
        finally:
            await limit_rates(denying, user, {"producer_byte_rate": None})
        assert "not sent" in why
        (seconds,) = throttled_lately([log]).values()
        assert seconds > 1
        counted = metrics.registry.get_sample_value(
            "stream_throttled_seconds_total", {"transport": log.name}
        )
        assert counted is not None
        assert counted >= seconds - 0.1
        assert contents(await first_records(log, len(texts))) == texts
    said = [record for record in caplog.records if "our quota is used up" in record.message]
    assert [record.seconds > 1 for record in said] == [True]  # type: ignore[attr-defined]


async def test_a_quota_of_the_brokers_time_is_named_too(
    denying: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer to an append does not say which quota it is for."""
    prefix = f"{TOPICS}busy."
    await allow(denying, _grants(denying, prefix))
    user = denying.security.username
    async with KafkaTransport(_settings(denying, prefix)) as log:

        async def is_throttled() -> bool:
            await log.publish(messages(["a"], partition=0, of=log))
            return bool(throttled_lately([log]))

        await limit_rates(denying, user, {"request_percentage": 0.01})
        try:
            await eventually(is_throttled)
        finally:
            await limit_rates(denying, user, {"request_percentage": None})
    (said,) = [record for record in caplog.records if "our quota is used up" in record.message]
    assert "raise producer_byte_rate and request_percentage of our user" in said.message


async def test_a_throttled_reader_gets_every_record_and_the_reason_is_logged(
    denying: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker holds records back, and answers without them until then."""
    prefix = f"{TOPICS}slowly."
    await allow(denying, _grants(denying, prefix))
    user = denying.security.username
    texts = [f"{number} {'x' * 20_000}" for number in range(20)]
    async with KafkaTransport(_settings(denying, prefix)) as log:
        await log.publish(messages(texts, partition=0, of=log))
        await limit_rates(denying, user, {"consumer_byte_rate": 20_000.0})
        try:
            records: list[Record] = []
            async with KafkaTransport(_settings(denying, prefix)) as reader:
                while len(records) < len(texts):
                    after = records[-1].offset if records else None
                    records += await reader.read(Topic.MESSAGES, 0, after=after, limit=3, wait=90.0)
        finally:
            await limit_rates(denying, user, {"consumer_byte_rate": None})
        assert contents(records) == texts
    said = [record for record in caplog.records if "slows our reading down" in record.message]
    assert len(said) == 1
