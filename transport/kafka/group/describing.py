"""The members of a consumer group, of the classic protocol or the new one.

A broker answers DescribeGroups only for groups of the classic protocol. For a group of the new
protocol (KIP-848, ``group.protocol=consumer``) the answer is ``Dead``, as for a missing group. Such
a group is described by ConsumerGroupDescribe, which aiokafka (0.14) does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import (
    GroupIdNotFound,
    IncompatibleBrokerVersion,
    NoError,
    UnsupportedVersionError,
    for_code,
)
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from transport.kafka.client.requests import OneVersion, Uuid

__all__ = ["GroupMember", "members_of"]

_DESCRIBE = 69
_DEAD = "Dead"
_TEXT = CompactString("utf-8")
_PARTITIONS = Schema(
    (
        "topics",
        CompactArray(
            ("topic_id", Uuid),
            ("topic", _TEXT),
            ("partitions", CompactArray(Int32)),
            ("tags", TaggedFields),
        ),
    ),
    ("tags", TaggedFields),
)


_MEMBER = (
    ("member_id", _TEXT),
    ("instance_id", _TEXT),
    ("rack_id", _TEXT),
    ("member_epoch", Int32),
    ("client_id", _TEXT),
    ("client_host", _TEXT),
    ("subscribed_topics", CompactArray(_TEXT)),
    ("subscribed_regex", _TEXT),
    ("assignment", _PARTITIONS),
    ("target_assignment", _PARTITIONS),
)


def _groups(*member: tuple[str, Any]) -> Schema:
    """Return the schema of an answer, whose members have these fields."""
    return Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            CompactArray(
                ("error_code", Int16),
                ("error_message", _TEXT),
                ("group", _TEXT),
                ("state", _TEXT),
                ("group_epoch", Int32),
                ("assignment_epoch", Int32),
                ("assignor", _TEXT),
                ("members", CompactArray(*member, ("tags", TaggedFields))),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeResponse(Response):  # type: ignore[misc] # aiokafka is not typed
    API_KEY = _DESCRIBE
    API_VERSION = 0
    SCHEMA = _groups(*_MEMBER)


class _DescribeRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _DESCRIBE
    API_VERSION = 0
    RESPONSE_TYPE = _DescribeResponse
    SCHEMA = Schema(
        ("groups", CompactArray(_TEXT)),
        ("include_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class GroupMember(NamedTuple):
    """A member: its client id, and the partitions that it owns, by topic."""

    client: str
    owns: Mapping[str, Sequence[int]]


async def members_of(admin: AIOKafkaAdminClient, group: str) -> list[GroupMember]:
    """Return the members of ``group``; an empty list if it does not exist.

    Raises:
        KafkaError: the coordinator can't answer now.
    """
    (answer,) = await admin.describe_consumer_groups([group])
    ((code, _group, state, _kind, _protocol, members, *_),) = answer.groups
    if (error := for_code(code)) not in (NoError, GroupIdNotFound):
        raise error(group)
    if error is GroupIdNotFound or state == _DEAD:
        return await _new_members_of(admin, group)
    return [
        GroupMember(client, _assigned(assigned))
        for _id, client, _host, _metadata, assigned, *_more in members
    ]


def _assigned(encoded: bytes) -> dict[str, Sequence[int]]:
    """Return the assignment of a member of the classic protocol; it is empty during a rebalance."""
    return dict(ConsumerProtocol.ASSIGNMENT.decode(encoded).assignment) if encoded else {}


async def _new_members_of(admin: AIOKafkaAdminClient, group: str) -> list[GroupMember]:
    answer = await _new_description(admin, group)
    if answer is None:
        return []
    ((code, _message, _group, _state, _epoch, _assigned_at, _assignor, members, *_),) = (
        answer.groups
    )
    # Kafka 3.7 to 3.9 know the request, and refuse it unless such groups were switched on.
    if (error := for_code(code)) not in (NoError, GroupIdNotFound, UnsupportedVersionError):
        raise error(group)
    return [
        GroupMember(
            client,
            {topic: parts for _topic_id, topic, parts, _tags in assignment[0] or ()},
        )
        for (
            _id, _instance, _rack, _at, client, _host, _topics, _regex, assignment, _target,
            _tags,
        ) in members
    ]  # fmt: skip


async def _new_description(admin: AIOKafkaAdminClient, group: str) -> Any:
    """Return the broker's answer; ``None`` from a broker without such groups."""
    node = await admin.find_coordinator(group)
    request = OneVersion(_DescribeRequest, [group], False, {})
    with suppress(IncompatibleBrokerVersion):
        return await admin._send_request(request, node)  # noqa: SLF001 - no public way
    return None
