"""When a client of Kafka looks at its partitions."""
# ruff: noqa: SLF001 - no figure tells how often it does

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from tests.support.eventually import eventually
from transport.kafka import KafkaTransport
from transport.kafka.client.looks import LOOK_MS
from transport.kafka.connection.connection import Connector
from transport.settings import TransportSettings


async def learns_of_leaders(client: AIOKafkaConsumer) -> None:
    """The leader of what it waits for may have moved: a broker that is gone tells it nothing."""
    await client._client.force_metadata_update()


async def sees_that_a_broker_is_free(client: AIOKafkaConsumer) -> None:
    """The broker's answer may have been seen before it was noted that the broker is free."""
    client._fetcher._in_flight.add(99)
    client._fetcher._in_flight.discard(99)


async def resumes_a_partition(client: AIOKafkaConsumer) -> None:
    """A resumed partition is fetched at once."""
    client.resume(*client.assignment())


@pytest.mark.parametrize(
    "event", [learns_of_leaders, sees_that_a_broker_is_free, resumes_a_partition]
)
async def test_a_client_looks_at_its_partitions_when_there_may_be_work(
    kafka_settings: TransportSettings,
    kafka_transport: KafkaTransport,
    event: Callable[[AIOKafkaConsumer], Awaitable[None]],
) -> None:
    client = await Connector(kafka_settings).reader()
    try:
        at = TopicPartition(kafka_settings.kafka_topic, 0)
        client.assign([at])
        client.pause(at)
        fetcher, looks = client._fetcher, list[Any]()
        look = fetcher._get_actions_per_node

        def noting(assignment: Any) -> Any:
            looks.append(assignment)
            return look(assignment)

        fetcher._get_actions_per_node = noting
        fetcher._fetcher_timeout = 1e6  # so that it never looks of its own accord
        await eventually(lambda: len(looks) > 0)
        for _ in range(5):
            looks.clear()
            await event(client)
            await eventually(lambda: len(looks) > 0)
            client.pause(at)
    finally:
        await client.stop()


async def test_a_client_whose_partitions_are_paused_goes_through_them_once(
    kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    """Each process has several such clients, which only answer questions."""
    client = await Connector(kafka_settings).reader()
    try:
        at = TopicPartition(kafka_settings.kafka_topic, 0)
        client.assign([at])
        client.pause(at)
        client.seek(at, 0)
        fetcher, waits = client._fetcher, list[float]()
        look = fetcher._get_actions_per_node

        def noting(assignment: Any) -> Any:
            requests, resets, wait, unknown, resumed = look(assignment)
            waits.append(wait)
            assert not resumed  # each of these futures would be waited for
            return requests, resets, wait, unknown, resumed

        fetcher._get_actions_per_node = noting
        await eventually(lambda: bool(waits) and waits[-1] > 5 * LOOK_MS / 1000)
        client.resume(at)
        await eventually(lambda: waits[-1] <= LOOK_MS / 1000)
    finally:
        await client.stop()


async def test_a_client_finds_to_do_what_its_library_does(
    kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    """In each state of its partitions, but for the order in which they are fetched."""
    client = await Connector(kafka_settings).reader()
    try:
        fetcher, cluster = client._fetcher, client._client.cluster
        look = fetcher._get_actions_per_node
        fetcher._get_actions_per_node = lambda _assignment: ([], {}, 1e6, False, [])  # ours alone
        both = [TopicPartition(kafka_settings.kafka_topic, partition) for partition in (0, 1)]
        client.assign(both)
        client.pause(*both)
        for at in both:
            client.seek(at, at.partition)
        assignment = client._subscription.subscription.assignment
        await client._client.force_metadata_update()
        await eventually(lambda: cluster.leader_for_partition(both[1]) not in (None, -1))

        def same() -> dict[int, list[Any]]:
            found, theirs = ([*side(assignment)] for side in (look, look._look))
            assert _fetches(found) == _fetches(theirs)
            assert found[1] == theirs[1]
            assert found[3] == theirs[3]
            return _fetches(found)

        assert same() == {}
        client.resume(both[1])
        ((node, fetched),) = same().items()
        assert fetched == [(1, 1)]
        client.resume(both[0])
        assert same() == {node: [(0, 0), (1, 1)]}
        fetcher._in_flight.add(node)
        assert same() == {}
        fetcher._in_flight.discard(node)
        assignment.state_value(both[0])._position = None
        assert same() == {}  # its position is asked for first
        assert look(assignment)[1] == {node: [both[0]]}
        client.seek(both[0], 0)
        fetcher._preferred_read_replica[both[0]] = (node, 1e12)
        assert same() == {node: [(0, 0), (1, 1)]}
        fetcher._preferred_read_replica.clear()
        topic = cluster._partitions[kafka_settings.kafka_topic]
        topic[0] = topic[0]._replace(leader=-1)
        assert same() == {node: [(1, 1)]}
        assert look(assignment)[3]
    finally:
        await client.stop()


def _fetches(actions: Sequence[Any]) -> dict[int, list[Any]]:
    """Return the places that are asked for, by node."""
    return {
        node: sorted(
            (partition, position)
            for _topic, partitions in request.topics
            for partition, position, _most in partitions
        )
        for node, request in actions[0]
    }
