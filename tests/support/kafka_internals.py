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

from transport.contract import Topic
from transport.kafka import KafkaTransport
from transport.kafka.loss.identity import _MetadataResponse
from transport.kafka.producer.produce import Produce
from transport.kafka.producer.producer import PartitionQueue, Producer
from transport.kafka.read_ahead import fetcher
from transport.kafka.read_ahead.fetches import fetch_request

__all__ = [
    "abort",
    "appender_of",
    "disconnect_admin",
    "end_rest",
    "fetches_held",
    "followed",
    "groups_of",
    "hear_of_another_topic",
    "ids_of",
    "is_logged_later",
    "look_for_leaders",
    "lose_answer",
    "name_another_topic_id",
    "note_fetches",
    "note_requests",
    "partitions_expected",
    "producer_of",
    "queue_of",
    "reader_of",
    "replace_producer",
    "send",
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


def held_bytes(transport: KafkaTransport) -> int:
    """Return the bytes of all records that were fetched ahead of waiting reads."""
    held: int = transport._read_ahead._held.bytes
    return held


def note_fetches(patch: pytest.MonkeyPatch) -> list[dict[TopicPartition, int]]:
    """Return the offsets that waiting reads ask for from now on, by partition, for each fetch."""
    noted: list[dict[TopicPartition, int]] = []

    def noting(positions: dict[TopicPartition, int], **options: Any) -> Any:
        noted.append(dict(positions))
        return fetch_request(positions, **options)

    patch.setattr(fetcher, "fetch_request", noting)
    return noted


@contextmanager
def fetches_held(transport: KafkaTransport, *, are_lost: bool = False) -> Iterator[None]:
    """Keep the answers to fetches of waiting reads, and failures, until the block ends.

    ``are_lost``: then the same is fetched again.
    """
    reads, released = transport._read_ahead._fetcher, asyncio.Event()
    take_in, unanswered = reads._try_to_take_in, reads._unanswered
    failures: list[Any] = []

    async def held(part: Any, *answer: Any) -> None:
        await released.wait()
        if are_lost:
            reads.make_due(part)
        else:
            await take_in(part, *answer)

    reads._try_to_take_in = held  # type: ignore[method-assign, assignment]
    reads._unanswered = lambda *failure: failures.append(failure)  # type: ignore[method-assign]
    try:
        yield
    finally:
        released.set()
        reads._try_to_take_in = take_in  # type: ignore[method-assign]
        reads._unanswered = unanswered  # type: ignore[method-assign]
        for failure in failures:
            unanswered(*failure)


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


def is_logged_later(task: asyncio.Task[Any]) -> bool:
    """Return whether asyncio will log the task's error: it has one, and nobody retrieved it."""
    return bool(task._log_traceback)  # type: ignore[attr-defined]


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
