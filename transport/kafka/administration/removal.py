"""Removal of a log from Kafka: its two topics and our two groups. Other programs' groups stay."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NoError, UnknownTopicOrPartitionError, for_code

from transport.contract import GroupStanding, Holding, Topic
from transport.errors import TransportError, TransportUnavailable
from transport.kafka.client.errors import translate
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.group.groups import SHARE, UNTOLD, Committed, Groups, reads_topic
from transport.kafka.log import TopicLayout
from transport.kafka.reader import KafkaReader

__all__ = ["KafkaLogRemoval"]

_GONE_WITHIN = 30.0  # seconds until no broker that we ask lists a deleted topic any more
_POLL = 0.1


class KafkaLogRemoval:
    """Lists and removes the topics and groups of one log. ``ours`` has the names of our groups."""

    def __init__(
        self,
        admin: ClientPool[AIOKafkaAdminClient],
        groups: Groups,
        reader: KafkaReader,
        topics: Mapping[Topic, TopicLayout],
        ours: Mapping[Topic, str],
    ) -> None:
        self._admin = admin
        self._groups = groups
        self._reader = reader
        self._topics = topics
        self._ours = ours

    async def groups(self) -> list[GroupStanding]:
        """Return every group; see ``transport.contract.Transport.groups``."""
        kinds = await self._groups.kinds()
        found = []
        for topic, layout in self._topics.items():
            begins, ends = await asyncio.gather(
                self._reader.begins(layout.all()), self._reader.ends(layout.all())
            )
            for name, kind in kinds.items():
                ours = name == self._ours[topic]
                committed: Mapping[int, Committed] = {}
                if kind != SHARE:  # share groups commit no offsets
                    committed = await self._groups.committed(
                        name, layout.name, range(layout.partitions)
                    )
                if kind in UNTOLD:
                    if committed or kind == SHARE:
                        found.append(GroupStanding(topic, name, ours, lag=None, members=0))
                    continue
                members = await self._groups.members(name)
                if not (committed or reads_topic(members, layout.name) or ours):
                    continue
                lag = 0
                for at in layout.all():
                    known = committed.get(at.partition)
                    start = max(begins[at], known.offset) if known else begins[at]
                    lag += max(0, ends[at] - start)
                found.append(GroupStanding(topic, name, ours, lag, len(members)))
        return found

    async def holdings(self) -> list[Holding]:
        """Return the existing topics and groups of this log."""
        found = []
        for layout in self._topics.values():
            begins, ends = await asyncio.gather(
                self._reader.begins(layout.all()), self._reader.ends(layout.all())
            )
            records = sum(ends[at] - begins[at] for at in layout.all())
            found.append(Holding("topic", layout.name, records=records))
        kinds = await self._groups.kinds()
        return found + [Holding("group", group) for group in self._ours.values() if group in kinds]

    async def refuse_members(self) -> None:
        """Return if no group that reads the topics has members.

        Raises:
            TransportError: a group has members.
        """
        for standing in await self.groups():
            if standing.members:
                raise TransportError(f"group {standing.group} has members: stop them first")

    async def remove(self) -> None:
        """Delete the topics, then our groups.

        Committed offsets are deleted with the topics. The messages topic is deleted last of the
        two: while it exists, the log exists.
        """
        await self._delete(self._topics[Topic.DEAD_LETTERS].name)
        await self._delete(self._topics[Topic.MESSAGES].name)
        for group in self._ours.values():
            await self._groups.forget(group)

    async def _delete(self, topic: str) -> None:
        async def delete(admin: AIOKafkaAdminClient) -> None:
            try:
                answer = await admin.delete_topics([topic])
            except AttributeError as error:  # aiokafka raises it if there is no controller
                raise TransportUnavailable("Kafka has no controller now") from error
            for name, code, *_ in answer.topic_error_codes:
                refusal = for_code(code)
                if refusal not in (NoError, UnknownTopicOrPartitionError):
                    raise translate(refusal(name))

        await self._admin.ask(delete)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GONE_WITHIN
        while topic in await self._admin.ask(lambda admin: admin.list_topics()):
            if loop.time() > deadline:
                raise TransportUnavailable(f"topic {topic} is still listed after it was deleted")
            await asyncio.sleep(_POLL)
