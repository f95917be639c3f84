"""The ids of topics, as most brokers name them.

Just after a topic was made anew, a broker may still have its old metadata, and one that can't reach
its controllers keeps it. One wrong answer would count unread records of the current topic as lost
with an earlier one, and let workers begin another log. So an id that was not seen last is believed
only if most brokers name it.
"""

from __future__ import annotations

import asyncio
import random
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
    """Describe ``topic`` as more than half of the brokers that answer know it.

    They are asked one by one, until more than half of all agree: a client of aiokafka connects to
    one node at a time, so one that hangs would use up the time of those behind it. The order is
    another one at each attempt, as several that hang may use up the time of the request.
    """
    brokers = list(admin._client.cluster.brokers())  # noqa: SLF001 - no public way
    random.shuffle(brokers)
    found: dict[str, TopicDescription] = {}
    votes: Counter[str] = Counter()
    errors: list[Exception] = []
    for broker in brokers:
        try:
            async with asyncio.timeout(within):
                answer = await describe_topic(admin, topic, broker.nodeId)
        except Exception as error:  # noqa: BLE001 - aiokafka may raise any
            errors.append(error)
            continue
        found[answer.id] = answer
        votes[answer.id] += 1
        if 2 * votes[answer.id] > len(brokers):
            return answer
    without = sum(isinstance(error, UnknownTopicOrPartitionError) for error in errors)
    for named, count in votes.items():
        if 2 * count > votes.total() + without:
            return found[named]
    if votes:
        raise TransportUnavailable(
            f"brokers disagree on the id of topic {topic}: some have old metadata"
        )
    raise errors[0] if errors else UnknownTopicOrPartitionError(topic)
