"""The rights of our user on the topics and the groups, as the broker tells them (KIP-430).

Without this question, a missing right would show only when the first append or position fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, NoError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3

from transport.errors import Unwritable
from transport.kafka.client.requests import OneVersion
from transport.kafka.loss.identity import authorized_operations
from transport.rights import LackingRights

__all__ = ["lacking_rights", "require_write"]

# The number of each operation (org.apache.kafka.common.acl.AclOperation) is its bit in an answer.
_READ, _WRITE, _DESCRIBE, _DESCRIBE_CONFIGS = "Read", "Write", "Describe", "DescribeConfigs"
_BITS = {_READ: 3, _WRITE: 4, _DESCRIBE: 8, _DESCRIBE_CONFIGS: 10}
_OF_A_TOPIC = (_DESCRIBE, _DESCRIBE_CONFIGS, _READ, _WRITE)
_OF_A_GROUP = (_DESCRIBE, _READ)
_UNTOLD = -(1 << 31)


class _DescribeGroups(DescribeGroupsRequest_v3):  # type: ignore[misc] # aiokafka is not typed
    RESPONSE_TYPE = DescribeGroupsResponse_v3  # aiokafka (0.14) reads version 2, without rights


async def lacking_rights(
    admin: AIOKafkaAdminClient, topics: Sequence[str], groups: Sequence[str]
) -> LackingRights | None:
    """Return the rights on these topics and groups that are needed and not granted.

    ``None`` if the broker does not tell.

    Raises:
        KafkaError: a broker can't answer now.
    """
    lacking: list[str] = []
    for topic in topics:
        allowed = await authorized_operations(admin, topic)
        if allowed == _UNTOLD:
            return None
        lacking += _missing(allowed, _OF_A_TOPIC, f"topic {topic}")
    for group in groups:
        allowed = await _on_group(admin, group)
        if allowed == _UNTOLD:
            return None
        lacking += _missing(allowed, _OF_A_GROUP, f"group {group}")
    return LackingRights(needed=lacking)


async def require_write(admin: AIOKafkaAdminClient, topic: str) -> None:
    """Return if our user may write to ``topic``, or the broker does not tell.

    Raises:
        Unwritable: it may not.
        KafkaError: the broker can't answer now.
    """
    allowed = await authorized_operations(admin, topic)
    if allowed != _UNTOLD and (lacking := _missing(allowed, (_WRITE,), f"topic {topic}")):
        raise Unwritable(f"Kafka's access rules forbid appends: allow our user {lacking[0]}")


def _missing(allowed: int, wanted: Sequence[str], on: str) -> list[str]:
    return [f"{name} on {on}" for name in wanted if not allowed >> _BITS[name] & 1]


async def _on_group(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return the operations that our user may do on a group, which need not exist."""
    try:
        node = await admin.find_coordinator(group)
        request = OneVersion(_DescribeGroups, [group], True)
        answer: Any = await admin._send_request(request, node)  # noqa: SLF001 - no public way
        ((code, *_described, allowed),) = answer.groups
        if (error := for_code(code)) is not NoError:
            raise error(group)
    except GroupAuthorizationFailedError:  # without Describe, the other rights are not told
        return 0
    return int(allowed)
