"""The identity of a topic: Kafka gives each topic an id, and a topic made anew a new id (KIP-516).

The offsets of a deleted topic mean other records in its successor, and requests with names alone,
as aiokafka sends them, can't tell the two apart. So we ask for the id, which aiokafka (0.14) does
not do.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from io import SEEK_CUR, BytesIO
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

from transport.kafka.client.requests import OneVersion, Uuid

__all__ = [
    "Leader",
    "PartitionLeaders",
    "TopicDescription",
    "authorized_operations",
    "describe_topic",
    "topic_id",
]

_METADATA = 3
_BY_NAME = uuid.UUID(int=0)
_WITH_IDS = 12  # the first version whose answer has topic ids
_PARTITION = struct.Struct(">hiii")  # error, number, leader, its epoch
_NODE_BYTES = 4
_LONG = 0x80  # lengths from here on take more than one byte


class PartitionLeaders(AbstractType):  # type: ignore[misc] # aiokafka is not typed
    """The number, leader and leader epoch of each partition of a topic; other fields are skipped.

    Each process asks for these more than once a second, and decoding 256 partitions field by field
    took 0.9 ms.
    """

    @classmethod
    def decode(cls, data: BytesIO) -> list[tuple[int, int, int]]:
        """Read the field."""
        count = UnsignedVarInt32.decode(data) - 1
        return _alike(data, count) or [_partition(data) for _ in range(count)]


def _partition(data: BytesIO) -> tuple[int, int, int]:
    _error, partition, leader, epoch = _PARTITION.unpack(data.read(_PARTITION.size))
    for _nodes in range(3):  # the replicas, those in sync, those offline
        count = data.read(1)[0]
        if count >= _LONG:
            data.seek(-1, SEEK_CUR)
            count = UnsignedVarInt32.decode(data)
        data.seek(_NODE_BYTES * max(0, count - 1), SEEK_CUR)
    TaggedFields.decode(data)
    return partition, leader, epoch


def _alike(data: BytesIO, count: int) -> list[tuple[int, int, int]] | None:
    """Read all partitions at once if each has as many nodes as the first; else return ``None``."""
    start = data.tell()
    if count > 1:
        _partition(data)
        size = data.tell() - start
        data.seek(start)
        raw = data.read(size * count)
        if len(raw) == size * count and _has_one_size(raw, size, count):
            return list(struct.Struct(f">2xiii{size - _PARTITION.size}x").iter_unpack(raw))
        data.seek(start)
    return None


def _has_one_size(raw: bytes, size: int, count: int) -> bool:
    """Return whether all partitions have the length bytes of the first, and so its size."""
    at = _PARTITION.size
    for _nodes in range(3):
        if raw[at] >= _LONG or raw[at::size] != raw[at : at + 1] * count:
            return False
        at += 1 + _NODE_BYTES * max(0, raw[at] - 1)
    return at == size - 1 and raw[at::size] == bytes(count)  # no tags


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _WITH_IDS
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                ("partitions", PartitionLeaders),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _WITH_IDS
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class Leader(NamedTuple):
    """The node that leads a partition, and its leader epoch, which each election raises."""

    node: int
    epoch: int


class TopicDescription(NamedTuple):
    """A topic's id, its partitions, and the leader of each of them that has one."""

    id: str
    leaders: Mapping[int, Leader]
    partitions: Sequence[int] = ()


async def describe_topic(
    admin: AIOKafkaAdminClient, topic: str, node: int | None = None
) -> TopicDescription:
    """Describe ``topic`` as ``node`` knows it, or any node without one.

    Raises aiokafka's error if there is no such topic.
    """
    found, partitions, _ = await _ask(admin, topic, node)
    leaders = {partition: Leader(node, epoch) for partition, node, epoch in partitions if node >= 0}
    return TopicDescription(str(found), leaders, sorted(partition for partition, *_ in partitions))


async def authorized_operations(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Return the operations that our user may do on ``topic``, one bit each (KIP-430)."""
    _, _, operations = await _ask(admin, topic, operations=True)
    return operations


async def _ask(
    admin: AIOKafkaAdminClient, topic: str, node: int | None = None, *, operations: bool = False
) -> tuple[uuid.UUID, list[tuple[int, int, int]], int]:
    """Return a topic's id, its partitions, and with ``operations`` those that our user may do."""
    # The request does not create a missing topic.
    request = OneVersion(_MetadataRequest, [(_BY_NAME, topic, {})], False, operations, {})
    answer: Any = await admin._send_request(request, node)  # noqa: SLF001 - no public way
    ((code, _name, found, _internal, partitions, allowed, _tags),) = answer.topics
    error = for_code(code)
    if error is not NoError:
        raise error(topic)
    return found, partitions, allowed


async def topic_id(admin: AIOKafkaAdminClient, topic: str) -> str:
    """Return the id of ``topic``. Raises aiokafka's error if there is no such topic."""
    return (await describe_topic(admin, topic)).id
