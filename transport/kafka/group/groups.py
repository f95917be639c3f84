"""A group's state in Kafka: committed offsets with their marks, members, and owners."""

from __future__ import annotations

import logging
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
from transport.kafka.client.assignor import is_workers_name
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.group.describing import GroupMember, members_of
from transport.kafka.group.memberless_commits import commit_without_members
from transport.kafka.group.own_topic import obstacle
from transport.kafka.loss.mark import Mark, read_mark

__all__ = ["SHARE", "UNTOLD", "Committed", "Groups", "owners_of"]

log = logging.getLogger(__name__)

SHARE = "share"
UNTOLD = frozenset({SHARE, "streams"})
"""The kinds of groups whose members and assignments we can't ask for."""

# Other kinds read no topics: workers of Kafka Connect, for example, have groups of their own kind.
_READERS = UNTOLD | {"", "consumer"}


class Committed(NamedTuple):
    """The offset of the first record that the group has not acknowledged, and its mark."""

    offset: int
    mark: Mark


class _Others(NamedTuple):
    """The client ids of members without the mark: other programs, and earlier workers."""

    strangers: frozenset[str] = frozenset()
    earlier: frozenset[str] = frozenset()


class Groups:
    """Reads the state of groups, and deletes groups, with admin clients of the pool."""

    def __init__(self, admin: ClientPool[AIOKafkaAdminClient]) -> None:
        self._admin = admin
        self._others: dict[str, _Others] = {}  # those that own partitions, by topic

    async def committed(self, group: str, topic: str, partitions: int) -> Mapping[int, Committed]:
        """Return the committed offsets of ``group``; a partition without one is absent.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """
        wanted = [TopicPartition(topic, partition) for partition in range(partitions)]

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

    async def obstacle(self, group: str) -> str:
        """Return why Kafka can't let members into ``group``, as text; empty if it is not known."""
        try:
            return await self._admin.ask(lambda admin: obstacle(admin, group))
        except TransportError:
            return ""

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

    async def owners(self, group: str, topic: str) -> Mapping[int, str]:
        """Return the client id of the owner of each partition of ``topic``.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """
        members = await self.members(group)
        self._tell_others(group, members, topic)
        return owners_of(members, topic)

    def _tell_others(self, group: str, members: Iterable[GroupMember], topic: str) -> None:
        """Log which others than workers of this version own partitions, when that changes."""
        owners = [member for member in members if member.owns.get(topic)]
        if not owners or any(member.is_ours is None for member in owners):
            return  # the group has no members, or is rebalancing
        unmarked = frozenset(member.client for member in owners if not member.is_ours)
        earlier = frozenset(filter(is_workers_name, unmarked))
        found, known = _Others(unmarked - earlier, earlier), self._others.get(topic, _Others())
        self._others[topic] = found
        about = {"group": group, "topic": topic}
        if found.strangers and found.strangers != known.strangers:
            log.error(
                "Partitions belong to members of our group that are no workers: their records are "
                "not stored; give another program a group of its own",
                extra={**about, "members": sorted(found.strangers)},
            )
        if found.earlier and not known.earlier:
            log.info(
                "Partitions belong to workers of an earlier version, which store their records: "
                "this process waits for its share of them until the rolling restart ends",
                extra={**about, "members": sorted(found.earlier)},
            )
        if known.strangers and not found.strangers:
            log.info("All partitions belong to workers again", extra=about)


def owners_of(members: Iterable[GroupMember], topic: str) -> dict[int, str]:
    """Return the client id of the owner of each partition of ``topic`` that has one."""
    return {
        partition: member.client for member in members for partition in member.owns.get(topic, ())
    }
