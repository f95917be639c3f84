"""Sets rights and quotas of users of a local Kafka, over the listener without authentication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.admin import (
    CreateAclsRequest_v1,
    DeleteAclsRequest_v1,
    DescribeAclsRequest_v1,
)
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from transport.kafka.client.requests import OneVersion

__all__ = [
    "AUTHORIZER",
    "GROUP_RIGHTS",
    "TOPIC_RIGHTS",
    "Grant",
    "Operation",
    "Resource",
    "allow",
    "forbidden",
    "limit_rates",
]

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # the user of listeners without authentication
}
"""A broker's settings that forbid everything that is not allowed explicitly."""

# org.apache.kafka.common: PatternType, AclPermissionType
_ANY, _PREFIXED, _DENY, _ALLOW = 1, 4, 2, 3


class Resource(IntEnum):
    """Resource types of ACLs (org.apache.kafka.common.resource.ResourceType)."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4


class Operation(IntEnum):
    """Operations of ACLs (org.apache.kafka.common.acl.AclOperation)."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10


# The rights that docs/managed_kafka.md asks for.
TOPIC_RIGHTS = (
    Operation.CREATE,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.READ,
    Operation.WRITE,
)
GROUP_RIGHTS = (Operation.DESCRIBE, Operation.READ)


class Grant(NamedTuple):
    """The right of a user to one operation on all resources with a name prefix."""

    user: str
    resource: Resource
    prefix: str
    operation: Operation


async def allow(server: KafkaServer, grants: Iterable[Grant]) -> None:
    """Add rights; return once the broker applies them, which is later than its answer."""
    await _create(server, [_entry(grant, _ALLOW) for grant in grants])


@asynccontextmanager
async def forbidden(server: KafkaServer, grant: Grant) -> AsyncIterator[None]:
    """Take a right away, whatever else allows it, and give it back."""
    entry = _entry(grant, _DENY)
    await _create(server, [entry])
    yield
    async with _superuser(server) as client:
        request = OneVersion(DeleteAclsRequest_v1, [entry])
        answer = await client.send(client.get_random_node(), request)
        for code, message, _ in answer.filter_responses:
            _check(code, message)


def _entry(grant: Grant, permission: int) -> tuple[Any, ...]:
    user, resource, prefix, operation = grant
    return (resource, prefix, _PREFIXED, f"User:{user}", "*", operation, permission)


async def _create(server: KafkaServer, wanted: Sequence[tuple[Any, ...]]) -> None:
    async with _superuser(server) as client:
        request = OneVersion(CreateAclsRequest_v1, list(wanted))
        answer = await client.send(client.get_random_node(), request)
        for code, message in answer.creation_responses:
            _check(code, message)
        await eventually(lambda: _holds(client, set(wanted)))


async def _holds(client: AIOKafkaClient, wanted: set[tuple[Any, ...]]) -> bool:
    request = OneVersion(DescribeAclsRequest_v1, _ANY, None, _ANY, None, None, _ANY, _ANY)
    answer = await client.send(client.get_random_node(), request)
    _check(answer.error_code, answer.error_message)
    found = {
        (resource, name, pattern, *right)
        for resource, name, pattern, rights in answer.resources
        for right in rights
    }
    return wanted <= found


async def limit_rates(server: KafkaServer, user: str, rates: Mapping[str, float | None]) -> None:
    """Set quotas of a user, such as ``producer_byte_rate``; ``None`` removes one."""
    operations = [(name, rate or 0.0, rate is None) for name, rate in rates.items()]
    async with _superuser(server) as client:
        request = OneVersion(_AlterQuotas, [([("user", user)], operations)], False)
        answer = await client.send(client.get_random_node(), request)
        for code, message, _ in answer.entries:
            _check(code, message)


@asynccontextmanager
async def _superuser(server: KafkaServer) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(bootstrap_servers=server.internal)
    await client.bootstrap()
    try:
        yield client
    finally:
        await client.close()


def _check(code: int, message: str) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error(message)


class _QuotasAltered(Response):  # type: ignore[misc] # aiokafka is not typed
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "entries",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("entity", Array(("entity_type", String("utf-8")), ("name", String("utf-8")))),
            ),
        ),
    )


class _AlterQuotas(RequestStruct):  # type: ignore[misc]
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _QuotasAltered
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", Array(("entity_type", String("utf-8")), ("name", String("utf-8")))),
                (
                    "ops",
                    Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean)),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )
