"""Groups of other programs on our topics, of every protocol that Kafka has."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, NoError, for_code
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka_internals import send
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, GroupStanding, Topic
from transport.errors import TransportError
from transport.kafka import KafkaTransport
from transport.kafka.client.requests import OneVersion, Uuid

_TEXT = CompactString("utf-8")
_OWNED = CompactArray(
    ("topic_id", Uuid), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
)


class _Beat(Response):
    API_KEY = 68
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", _TEXT),
        ("member_id", _TEXT),
        ("member_epoch", Int32),
    )


class _ConsumerGroupHeartbeat(RequestStruct):
    """How a member of the new protocol (KIP-848) joins."""

    FLEXIBLE_VERSION = True
    API_KEY = 68
    API_VERSION = 1
    RESPONSE_TYPE = _Beat
    SCHEMA = Schema(
        ("group", _TEXT),
        ("member_id", _TEXT),
        ("member_epoch", Int32),
        ("instance_id", _TEXT),
        ("rack_id", _TEXT),
        ("rebalance_timeout_ms", Int32),
        ("topics", CompactArray(_TEXT)),
        ("regex", _TEXT),
        ("assignor", _TEXT),
        ("owned", _OWNED),
        ("tags", TaggedFields),
    )


class _ShareBeat(_Beat):
    API_KEY = 76


class _ShareGroupHeartbeat(RequestStruct):
    """How a member of a share group (KIP-932) joins."""

    FLEXIBLE_VERSION = True
    API_KEY = 76
    API_VERSION = 1
    RESPONSE_TYPE = _ShareBeat
    SCHEMA = Schema(
        ("group", _TEXT),
        ("member_id", _TEXT),
        ("member_epoch", Int32),
        ("rack_id", _TEXT),
        ("topics", CompactArray(_TEXT)),
        ("tags", TaggedFields),
    )


@pytest.fixture
async def log(kafka_settings) -> AsyncIterator[KafkaTransport]:
    async with KafkaTransport(kafka_settings) as log:
        await log.publish(messages(["a", "b"], partition=3, of=log))
        yield log


@pytest.fixture
async def join(kafka_settings) -> AsyncIterator[object]:
    """Send a request to a group's coordinator until the answer has no error; return that."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=kafka_settings.kafka_bootstrap_servers, client_id="stranger"
    )
    await admin.start()

    async def answered(group: str, request):
        try:
            answer = await send(admin, request, await admin.find_coordinator(group))
        except GroupCoordinatorNotAvailableError:
            return None
        error = for_code(answer.error_code)
        assert error is NoError or error.retriable, f"{error} {answer}"
        return answer if error is NoError else None

    async def join(group: str, request):
        return await eventually(lambda: answered(group, request))

    yield join
    await admin.close()


async def standing(log: KafkaTransport, group: str) -> list[GroupStanding]:
    return [found for found in await log.groups() if found.group == group]


async def test_a_group_of_the_new_protocol_is_told_with_its_members_and_lag(log, join):
    group, member = f"new-{uuid.uuid4().hex}", str(uuid.uuid4())
    beat = OneVersion(
        _ConsumerGroupHeartbeat, group, member, 0, None, None, 60_000,
        [log.location.messages], None, None, [], {},
    )  # fmt: skip
    await join(group, beat)

    async def told() -> list[GroupStanding]:
        return await standing(log, group)

    (found,) = await eventually(told)
    assert (found.ours, found.lag, found.members) == (False, 2, 1)


async def test_a_member_of_the_new_protocol_in_our_group_only_hides_the_positions(log, join):
    member, epoch = str(uuid.uuid4()), 0

    async def beat(*, leaving: bool = False) -> None:
        nonlocal epoch
        topics = [log.location.messages] if epoch == 0 else None
        at = -1 if leaving else epoch
        epoch = (
            await join(
                WORKER_GROUP,
                OneVersion(
                    _ConsumerGroupHeartbeat, WORKER_GROUP, member, at, None, None, 60_000,
                    topics, None, None, None if epoch else [], {},
                ),
            )
        ).member_epoch  # fmt: skip

    async def is_refused() -> bool:
        await beat()
        try:
            await log.publish_positions(Topic.MESSAGES, {0: "0"}, group=WORKER_GROUP)
        except TransportError as error:
            return "it has a member" in str(error)
        return False

    await eventually(is_refused, every=0.1)
    assert len(await first_records(log, 2, partition=3)) == 2
    await beat(leaving=True)

    async def is_over() -> bool:
        try:
            await log.publish_positions(Topic.MESSAGES, {0: "0"}, group=WORKER_GROUP)
        except TransportError:
            return False
        return True

    await eventually(is_over)


async def test_a_share_group_is_unknown_and_never_none(log, join):
    group = f"share-{uuid.uuid4().hex}"
    topics = [log.location.messages]
    await join(
        group, OneVersion(_ShareGroupHeartbeat, group, str(uuid.uuid4()), 0, None, topics, {})
    )
    assert {(found.lag, found.ours) for found in await standing(log, group)} == {(None, False)}


async def test_workers_of_kafka_connect_read_no_topic_by_their_group(log, join):
    """They share out connectors. A sink's consumer has a group of its own, told as any other."""
    group = f"connect-{uuid.uuid4().hex}"
    joining = JoinGroupRequest(group, 30_000, 30_000, "", "worker", "connect", [("v1", b"")])
    joined = await join(group, joining)
    member, connectors = joined.member_id, [(joined.member_id, b"connectors")]
    await join(group, SyncGroupRequest(group, joined.generation_id, member, "worker", connectors))
    assert await standing(log, group) == []
