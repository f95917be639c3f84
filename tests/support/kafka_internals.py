"""The insides of a Kafka transport that tests look at or break: reached into here alone."""

from __future__ import annotations

from typing import Any

from transport.contract import Consumer, Topic
from transport.kafka import KafkaTransport
from transport.kafka.producer import PartitionQueue, Producer

__all__ = [
    "appender_of",
    "client_of",
    "commits_of",
    "groups_of",
    "ids_of",
    "producer_of",
    "queue_of",
    "reader_of",
    "replace_producer",
    "tails_of",
]


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


def groups_of(transport: KafkaTransport) -> Any:
    """Return the object that asks for a group's commits and members."""
    return transport._groups


def ids_of(transport: KafkaTransport) -> Any:
    """Return the object that asks for the ids of topics."""
    return transport._ids


def tails_of(transport: KafkaTransport) -> Any:
    """Return the object that detects a lost tail of the log of messages."""
    return transport._tails[Topic.MESSAGES]


def client_of(consumer: Consumer) -> Any:
    """Return aiokafka's client of a consumer that has joined its group."""
    return consumer._membership._client  # type: ignore[attr-defined]


def commits_of(consumer: Consumer) -> Any:
    """Return the object that commits for a consumer that has joined its group."""
    return consumer._membership._commits  # type: ignore[attr-defined]
