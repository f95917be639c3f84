"""A partition without a leader, on one node: its broker answers as if there were none.

A real one, whose node is gone, is among the fault runs (``test_kafka_cluster.py``).
"""

from __future__ import annotations

from typing import Any

import pytest

from ingress.accept.backlog import Backlog
from persistence.database.pool import Pool
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.kafka.loss import topic_ids
from transport.kafka.loss.identity import TopicDescription
from transport.progress import progress_everywhere


@pytest.fixture
async def leaderless(
    kafka_transport: KafkaTransport, monkeypatch: pytest.MonkeyPatch
) -> KafkaTransport:
    """A log with a record in each partition, of which the second has no leader."""
    for partition in range(kafka_transport.partitions):
        await kafka_transport.publish(messages(["waits"], partition=partition, of=kafka_transport))
    whole = topic_ids.describe_topic

    async def describe_topic(*arguments: Any) -> TopicDescription:
        found = await whole(*arguments)
        return found._replace(leaders={p: at for p, at in found.leaders.items() if p != 1})

    monkeypatch.setattr(topic_ids, "describe_topic", describe_topic)
    return kafka_transport


async def test_only_its_own_lag_is_unknown(leaderless: KafkaTransport) -> None:
    progress = await leaderless.progress(Topic.MESSAGES, group=WORKER_GROUP)
    assert [(part.partition, part.lag, part.unavailable) for part in progress] == [
        (0, 1, False), (1, None, True), (2, 1, False), (3, 1, False),
    ]  # fmt: skip
    assert (progress[1].end, progress[1].floor, progress[1].appended) == (None, None, None)
    with pytest.raises(TransportUnavailable, match=r"partitions \[1\] of kafka have no leader"):
        await progress_everywhere(leaderless, Topic.MESSAGES, group=WORKER_GROUP)


async def test_every_conversation_of_it_may_have_messages_in_the_log(
    leaderless: KafkaTransport, database_pool: Pool
) -> None:
    """Or one that is persisted directly would overtake them."""
    backlog = Backlog(leaderless, database_pool, limit=100)
    assert await backlog.behind([(0, "another"), (1, "another 1")]) == {"another 1"}
