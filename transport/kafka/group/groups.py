"""A group's state in Kafka: committed offsets with their marks, and members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupIdNotFound,
    GroupLoadInProgressError,
    NoError,
    NonEmptyGroup,
    for_code,
)
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from transport.errors import TransportError
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.group.describing import GroupMember, members_of
from transport.kafka.group.memberless_commits import commit_without_members
from transport.kafka.loss.mark import Mark, read_mark

__all__ = ["SHARE", "UNTOLD", "Committed", "Groups", "reads_topic"]

SHARE = "share"
UNTOLD = frozenset({SHARE, "streams"})
"""The kinds of groups whose members and assignments we can't ask for."""

# Other kinds read no topics: workers of Kafka Connect, for example, have groups of their own kind.
_READERS = UNTOLD | {"", "consumer"}


class Committed(NamedTuple):
    """The offset after the published position, and its mark."""

    offset: int
    mark: Mark


class Groups:
    """Reads the state of groups, and deletes groups, with admin clients of the pool."""

    def __init__(self, admin: ClientPool[AIOKafkaAdminClient]) -> None:
        self._admin = admin

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> Mapping[int, Committed]:
        """Return the committed offsets of ``group``; a partition without one is absent.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """
        wanted = [TopicPartition(topic, partition) for partition in partitions]

        async def fetch(admin: AIOKafkaAdminClient) -> Mapping[TopicPartition, OffsetAndMetadata]:
            offsets: Mapping[
                TopicPartition, OffsetAndMetadata
            ] = await admin.list_consumer_group_offsets(group, partitions=wanted)
            # For a partition without a commit, the answer has offset -1. A coordinator that starts
            # or has moved answers with an error and no partitions, and aiokafka hides the error.
            if not offsets.keys() >= set(wanted):
                raise GroupLoadInProgressError(group)
            return offsets

        offsets = await self._admin.ask(fetch)
        return {
            at.partition: Committed(found.offset, read_mark(found.metadata))
            for at, found in offsets.items()
            if found.offset >= 0
        }

    async def publish(self, group: str, topic: str, offsets: Mapping[int, Committed]) -> None:
        """Commit offsets of ``group``, by partition, without being its member; it may have none.

        Raises:
            TransportError: the group has members.
            TransportUnavailable: the coordinator can't do it now, or it is unknown whether it did.
        """
        await self._admin.ask(lambda admin: commit_without_members(admin, group, topic, offsets))

    async def forget(self, group: str) -> None:
        """Delete ``group`` with its committed offsets.

        Raises:
            TransportError: the group has members.
            TransportUnavailable: the coordinator can't do it now.
        """

        async def delete(admin: AIOKafkaAdminClient) -> None:
            node = await admin.find_coordinator(group)
            request = DeleteGroupsRequest([group])
            answer = await admin._send_request(request, node)  # noqa: SLF001 - no public way
            ((_group, code),) = answer.results
            error = for_code(code)
            if error is NonEmptyGroup:
                raise TransportError(f"group {group} has members: stop them first")
            if error not in (NoError, GroupIdNotFound):
                raise error(group)

        await self._admin.ask(delete)

    async def kinds(self) -> dict[str, str]:
        """Return the kind of each group that may read a topic, by name.

        Raises:
            TransportUnavailable: a broker can't say now.
        """
        found = await self._admin.ask(lambda admin: admin.list_consumer_groups())
        return {name: kind for name, kind, *_ in sorted(found) if kind in _READERS}

    async def members(self, group: str) -> list[GroupMember]:
        """Return the members of ``group``.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """
        return await self._admin.ask(lambda admin: members_of(admin, group))


def reads_topic(members: Iterable[GroupMember], topic: str) -> bool:
    """Return whether any of ``members`` owns a partition of ``topic``."""
    return any(member.owns.get(topic) for member in members)
