"""The ids of topics, as most brokers name them.

Just after a topic was made anew, a broker may still have its old metadata, and one that can't reach
its controllers keeps it. One wrong word set a group back to the beginning of the log, and counted
unread records of the current topic as lost with an earlier one. So an id that was not seen last is
believed only if most brokers name it.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError

from transport.errors import TransportUnavailable
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.loss.identity import TopicDescription, describe_topic

__all__ = ["TopicIds"]


class TopicIds:
    """Asks for the ids of topics, and remembers them for callers that can't wait for an answer.

    A broker that takes more than ``within`` seconds is left out.
    """

    def __init__(self, admin: ClientPool[AIOKafkaAdminClient], *, within: float) -> None:
        self._admin = admin
        self._within = within
        self._seen: dict[str, str] = {}

    async def now(self, topic: str) -> str:
        """Return the id of ``topic``.

        Raises:
            TransportUnavailable: Kafka can't say now, or there is no such topic.
        """
        return (await self.describe(topic)).id

    async def describe(self, topic: str) -> TopicDescription:
        """Return the id of ``topic`` and the leaders of its partitions.

        Raises:
            TransportUnavailable: Kafka can't say now, its brokers disagree, or there is no such
                topic.
        """
        found = await self._admin.ask(lambda admin: self._described(admin, topic))
        self._seen[topic] = found.id
        return found

    def last_seen(self, topic: str) -> str | None:
        """Return the id that was seen last, if any."""
        return self._seen.get(topic)

    async def _described(self, admin: AIOKafkaAdminClient, topic: str) -> TopicDescription:
        if topic in self._seen:
            found = await describe_topic(admin, topic)
            if found.id == self._seen[topic]:
                return found
        return await _by_most_brokers(admin, topic, self._within)


async def _by_most_brokers(
    admin: AIOKafkaAdminClient, topic: str, within: float
) -> TopicDescription:
    """Describe ``topic`` as more than half of the brokers that answer know it."""

    async def answer(node: int) -> TopicDescription:
        async with asyncio.timeout(within):
            return await describe_topic(admin, topic, node)

    brokers = admin._client.cluster.brokers()  # noqa: SLF001 - no public way
    answers = await asyncio.gather(
        *(answer(broker.nodeId) for broker in brokers), return_exceptions=True
    )
    found = {answer.id: answer for answer in answers if isinstance(answer, TopicDescription)}
    votes = Counter(answer.id for answer in answers if isinstance(answer, TopicDescription))
    without = sum(isinstance(answer, UnknownTopicOrPartitionError) for answer in answers)
    for named, count in votes.items():
        if 2 * count > votes.total() + without:
            return found[named]
    if votes:
        raise TransportUnavailable(
            f"brokers disagree on the id of topic {topic}: some have old metadata"
        )
    errors = (answer for answer in answers if isinstance(answer, BaseException))
    raise next(errors, UnknownTopicOrPartitionError(topic))
