"""Access to internals of the Kafka transport and of aiokafka; no other test file uses them.

Each function causes a fault, or reads a state, for which there is no public API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from tests.support.eventually import eventually
from transport.contract import Consumer, Topic
from transport.kafka import KafkaTransport
from transport.kafka.loss.identity import _MetadataResponse
from transport.kafka.producer.produce import Produce
from transport.kafka.producer.producer import PartitionQueue, Producer
from transport.kafka.read_ahead import read_ahead
from transport.kafka.read_ahead.fetches import fetch_request

__all__ = [
    "abort",
    "after_offers",
    "appender_of",
    "buffered_partitions",
    "claiming_tasks",
    "client_of",
    "commits_of",
    "continuity_of",
    "disconnect_admin",
    "end_rest",
    "fetched_past",
    "followed",
    "groups_of",
    "hear_of_another_topic",
    "ids_of",
    "is_expelled",
    "is_logged_later",
    "look_for_leaders",
    "lose_answer",
    "membership_of",
    "name_another_topic_id",
    "note_fetches",
    "note_requests",
    "partitions_expected",
    "producer_of",
    "queue_of",
    "reader_of",
    "replace_producer",
    "send",
    "stop_fetching",
    "stop_heartbeats",
    "tails_of",
]


def abort(connection: Any) -> None:
    """Break a connection of aiokafka's."""
    connection._writer.transport.abort()


def appender_of(transport: KafkaTransport) -> Any:
    """Return the object that publishes for a transport, by one producer after another."""
    return transport._appender


def producer_of(transport: KafkaTransport) -> Producer | None:
    """Return the producer that is in use; none while one is replaced or closed."""
    return appender_of(transport)._producer


def queue_of(transport: KafkaTransport, partition: int = 0) -> PartitionQueue:
    """Return a partition's queue in the producer."""
    producer = producer_of(transport)
    assert producer is not None
    return producer.queue(transport._logs[Topic.MESSAGES].name, partition)


def replace_producer(transport: KafkaTransport) -> None:
    """Begin to replace the producer, as when the broker refuses its sequence."""
    producer = producer_of(transport)
    assert producer is not None
    appender_of(transport)._replace(producer, "for this test")


def reader_of(transport: KafkaTransport) -> Any:
    """Return the reader of records outside of any group."""
    return transport._reader


def followed(transport: KafkaTransport) -> dict[int, Any]:
    """Return the partitions of messages that waiting reads follow, by number."""
    name = transport._logs[Topic.MESSAGES].name
    parts = transport._read_ahead._followed
    return {at.partition: part for at, part in parts.items() if at.topic == name}


def note_fetches(patch: pytest.MonkeyPatch) -> list[dict[TopicPartition, int]]:
    """Return the offsets that waiting reads ask for from now on, by partition, for each fetch."""
    noted: list[dict[TopicPartition, int]] = []

    def noting(positions: dict[TopicPartition, int], **options: Any) -> Any:
        noted.append(dict(positions))
        return fetch_request(positions, **options)

    patch.setattr(read_ahead, "fetch_request", noting)
    return noted


def groups_of(transport: KafkaTransport) -> Any:
    """Return the object that asks for a group's commits and members."""
    return transport._groups


def ids_of(transport: KafkaTransport) -> Any:
    """Return the object that asks for the ids of topics."""
    return transport._ids


def hear_of_another_topic(transport: KafkaTransport) -> None:
    """Note another id of the messages topic, as if a broker with old metadata had told it."""
    ids_of(transport)._seen[transport._logs[Topic.MESSAGES].name] = "an earlier topic's"


def name_another_topic_id(patch: pytest.MonkeyPatch, *, nodes: Collection[int]) -> None:
    """Have each of these nodes name another id of every topic, as one with old metadata does."""
    ask = AIOKafkaAdminClient._send_request

    async def asking(admin: Any, request: Any, node_id: int | None = None) -> Any:
        node = admin._client.get_random_node() if node_id is None else node_id
        answer = await ask(admin, request, node)
        if node in nodes and isinstance(answer, _MetadataResponse):
            answer.topics = [
                (code, name, UUID(int=node), *rest) for code, name, _id, *rest in answer.topics
            ]
        return answer

    patch.setattr(AIOKafkaAdminClient, "_send_request", asking)


async def disconnect_admin(transport: KafkaTransport) -> None:
    """Have the admin client know the brokers and be connected to none, as one that was started."""
    await transport._admin.close()
    await transport._admin.connect()


def tails_of(transport: KafkaTransport) -> Any:
    """Return the object that detects a lost tail of the log of messages."""
    return transport._tails[Topic.MESSAGES]


def client_of(consumer: Consumer) -> Any:
    """Return aiokafka's client of a consumer that has joined its group."""
    return consumer._membership._client  # type: ignore[attr-defined]


def buffered_partitions(consumer: Consumer) -> set[int]:
    """Return the partitions of which aiokafka's client holds records that were not read yet."""
    return {at.partition for at in client_of(consumer)._fetcher._records}


async def fetched_past(consumer: Consumer, partition: int, offset: int) -> None:
    """Return once the consumer was given the records of a partition below ``offset``."""
    client = client_of(consumer)
    seek, passed = client.seek, asyncio.Event()

    def noting(at: TopicPartition, place: int) -> None:
        passed.set()  # it was given them, and reads them again
        seek(at, place)

    (at,) = [at for at in client.assignment() if at.partition == partition]
    client.seek = noting

    async def is_past() -> bool:
        return passed.is_set() or await client.position(at) >= offset

    await eventually(is_past, 20.0)
    client.seek = seek


def membership_of(consumer: Consumer) -> Any:
    """Return the membership that runs a consumer's client."""
    return consumer._membership  # type: ignore[attr-defined]


def after_offers(consumer: Consumer, called: Callable[[], None]) -> None:
    """Have ``called`` called just after each claim is offered, before its user gets it."""
    membership = membership_of(consumer)
    offer = membership._offer

    def offering(claim: Any) -> None:
        offer(claim)
        called()

    membership._offer = offering


def claiming_tasks(consumer: Consumer) -> set[Any]:
    """Return the tasks that are claiming partitions for a consumer."""
    return membership_of(consumer)._claiming._tasks  # type: ignore[no-any-return]


def continuity_of(consumer: Consumer) -> Any:
    """Return the object that compares a consumer's claims with the log."""
    return membership_of(consumer)._continuity


def commits_of(consumer: Consumer) -> Any:
    """Return the object that commits for a consumer that has joined its group."""
    return consumer._membership._commits  # type: ignore[attr-defined]


def end_rest(producer: Producer, queue: PartitionQueue) -> None:
    """End the pause of a queue now, as its timer does."""
    producer._try_again(queue)


def note_requests(producer: Producer, patch: pytest.MonkeyPatch) -> list[int]:
    """Return the batches of each request that the producer sends from now on."""
    client = producer._client
    counts: list[int] = []
    send = client.send

    async def counted(node: int, request: Any) -> Any:
        if isinstance(request, Produce):
            counts.append(sum(len(batches) for batches in request._request._topics.values()))
        return await send(node, request)

    patch.setattr(client, "send", counted)
    return counts


def look_for_leaders(producer: Producer) -> None:
    """Ask for the leaders now, as the producer's client does every 30 seconds."""
    producer._client.force_metadata_update()


def lose_answer(
    producer: Producer, patch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]
) -> None:
    """Lose the answer to the producer's next append, once ``then`` has ended."""
    client = producer._client
    send = client.send

    async def losing(node: int, request: Any) -> Any:
        answer = await send(node, request)
        if isinstance(request, Produce):
            patch.setattr(client, "send", send)
            await then()
            raise KafkaConnectionError("the answer is lost")
        return answer

    patch.setattr(client, "send", losing)


def stop_heartbeats(consumer: Consumer) -> None:
    """Keep a consumer from sending heartbeats, as a suspended process is kept."""

    async def nothing() -> bool:
        return True

    client_of(consumer)._coordinator._do_heartbeat = nothing


def is_logged_later(task: asyncio.Task[Any]) -> bool:
    """Return whether asyncio will log the task's error: it has one, and nobody retrieved it."""
    return bool(task._log_traceback)  # type: ignore[attr-defined]


def is_expelled(consumer: Consumer) -> bool:
    """Return whether a consumer's client knows that it is no member, and has not joined again."""
    return bool(client_of(consumer)._coordinator.generation < 0)


def stop_fetching(consumer: Consumer) -> None:
    """End the fetching task without an error, as aiokafka's issue 1154 does."""
    client_of(consumer)._fetcher._fetch_task.cancel()


@contextmanager
def partitions_expected(transport: KafkaTransport, count: int) -> Iterator[None]:
    """Make a transport expect only ``count`` partitions of its topics."""
    wanted = transport._specs
    transport._specs = {topic: spec._replace(partitions=count) for topic, spec in wanted.items()}
    yield
    transport._specs = wanted


async def send(admin: AIOKafkaAdminClient, request: Any, node: int) -> Any:
    """Send a request that the admin client has no method for to one node; return its answer."""
    return await admin._send_request(request, node)
