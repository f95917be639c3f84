"""A group's state in Kafka: committed offsets with their marks, and owners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import GroupIdNotFound, NoError, NonEmptyGroup, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import TopicPartition

from transport.errors import TransportError
from transport.kafka.client_pool import ClientPool
from transport.kafka.mark import Mark, read_mark

__all__ = ["Committed", "Groups"]


class Committed(NamedTuple):
    """Offset of the first record that the group has not acknowledged, and the mark beside it."""

    offset: int
    mark: Mark


class Groups:
    """Reads and forgets groups through a lent admin client."""

    def __init__(self, admin: ClientPool[AIOKafkaAdminClient]) -> None:
        self._admin = admin

    async def committed(self, group: str, topic: str, partitions: int) -> Mapping[int, Committed]:
        """Return the committed offsets of ``group``; a partition without one is absent.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """
        wanted = [TopicPartition(topic, partition) for partition in range(partitions)]
        offsets = await self._admin.ask(
            lambda admin: admin.list_consumer_group_offsets(group, partitions=wanted)
        )
        return {
            at.partition: Committed(found.offset, read_mark(found.metadata))
            for at, found in offsets.items()
            if found.offset >= 0
        }

    async def forget(self, group: str) -> None:
        """Forget how far ``group`` is.

        Raises:
            TransportError: it has members.
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

    async def names(self) -> list[str]:
        """Return the names of the cluster's consumer groups.

        Raises:
            TransportUnavailable: a broker can't say now.
        """
        found = await self._admin.ask(lambda admin: admin.list_consumer_groups())
        # Connect's and others' groups have another protocol, and read no topic by it.
        return sorted(name for name, kind, *_ in found if kind in ("", "consumer"))

    async def members(self, group: str) -> int:
        """Return how many members ``group`` has.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """

        async def describe(admin: AIOKafkaAdminClient) -> int:
            (response,) = await admin.describe_consumer_groups([group])
            for code, *_ in response.groups:
                if (error := for_code(code)) not in (NoError, GroupIdNotFound):
                    raise error(group)  # not known is not none
            return sum(len(described[5]) for described in response.groups)

        return await self._admin.ask(describe)

    async def owners(self, group: str, topic: str) -> Mapping[int, str]:
        """Return the owner of each partition of ``topic``, by the name that the member was given.

        Raises:
            TransportUnavailable: the coordinator can't say now.
        """
        (response,) = await self._admin.ask(lambda admin: admin.describe_consumer_groups([group]))
        found: dict[int, str] = {}
        for code, _group, _state, _kind, _protocol, members, *_ in response.groups:
            if for_code(code) is not NoError:
                continue  # a group without members yet
            for _id, client, _host, _metadata, assigned, *_more in members:
                if not assigned:
                    continue  # the group is rebalancing
                for name, numbers in ConsumerProtocol.ASSIGNMENT.decode(assigned).assignment:
                    if name == topic:
                        found.update(dict.fromkeys(numbers, client))
        return found
