"""Commits of a group's offsets by a client that is no member of it."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    IllegalGenerationError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest

from transport.errors import TransportError
from transport.kafka.loss.mark import Mark

__all__ = ["commit_without_members"]

_HAS_MEMBERS = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)
_NO_MEMBER = ""


async def commit_without_members(
    admin: AIOKafkaAdminClient, group: str, topic: str, offsets: Mapping[int, tuple[int, Mark]]
) -> None:
    """Commit ``offsets`` of ``topic``, by partition, in one request.

    Raises:
        KafkaError: the coordinator can't do it now.
        TransportError: the group has members, so Kafka takes commits only from them.
    """
    node = await admin.find_coordinator(group)
    request = OffsetCommitRequest(
        group,
        OffsetCommitRequest.DEFAULT_GENERATION_ID,
        _NO_MEMBER,
        OffsetCommitRequest.DEFAULT_RETENTION_TIME,
        [(topic, [(at, offset, mark.text()) for at, (offset, mark) in offsets.items()])],
    )
    answer = await admin._send_request(request, node)  # noqa: SLF001 - no public way
    for _topic, partitions in answer.topics:
        for _partition, code in partitions:
            error = for_code(code)
            if error in _HAS_MEMBERS:
                raise TransportError(
                    f"Kafka refuses the positions of group {group}: it has a member. Records are "
                    "processed all the same; only Kafka's tools show old positions. See who it is "
                    f"by `kafka-consumer-groups.sh --describe --members --group {group}`. Stop a "
                    "worker of an earlier version, and give another program a group of its own"
                )
            if error is not NoError:
                raise error(group)
