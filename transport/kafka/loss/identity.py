"""Identity of a topic: Kafka gives each an id (KIP-516), and a new one to one made anew.

Offsets of a deleted topic mean other records in its successor, and requests that carry names only
(aiokafka's do) can't tell the two apart. So we ask for the id, which aiokafka does not (0.14).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
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
from transport.kafka.connection.client_pool import ClientPool

__all__ = [
    "Described",
    "Leader",
    "PartitionLeaders",
    "TopicIds",
    "authorized_operations",
    "described",
    "topic_id",
]

_METADATA = 3
_BY_NAME = uuid.UUID(int=0)
_WITH_IDS = 12  # the version since which an id comes with each name
_PARTITION = struct.Struct(">hiii")  # error, number, leader, its epoch
_NODE_BYTES = 4
_LONG = 0x80  # a length from which on takes more than one byte


class PartitionLeaders(AbstractType):  # type: ignore[misc] # aiokafka is not typed
    """Number, leader and its epoch of each partition of a topic; the rest is passed over.

    Each process asks for them more than once a second, and field by field 256 took it 0.9 ms.
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
    """Read all partitions at once if each has as many nodes as the first; else read nothing."""
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
    """Return whether the bytes that say how long a partition is are those of the first in each."""
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
    """The node that leads a partition, and its leader epoch: a number that each election raises."""

    node: int
    epoch: int


class Described(NamedTuple):
    """A topic's id, and the leader of each of its partitions that has one."""

    id: str
    leaders: Mapping[int, Leader]


async def described(admin: AIOKafkaAdminClient, topic: str) -> Described:
    """Describe ``topic``. Raises aiokafka's error where there is none."""
    found, partitions, _ = await _ask(admin, topic)
    leaders = {partition: Leader(node, epoch) for partition, node, epoch in partitions if node >= 0}
    return Described(str(found), leaders)


async def authorized_operations(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Return what our user may do with ``topic``, a bit for each operation (KIP-430)."""
    _, _, operations = await _ask(admin, topic, operations=True)
    return operations


async def _ask(
    admin: AIOKafkaAdminClient, topic: str, *, operations: bool = False
) -> tuple[uuid.UUID, list[tuple[int, int, int]], int]:
    """Return a topic's id, its partitions, and what we may do with it if that is asked for."""
    # It makes no topic.
    request = OneVersion(_MetadataRequest, [(_BY_NAME, topic, {})], False, operations, {})
    answer: Any = await admin._send_request(request)  # noqa: SLF001 - no public way
    ((code, _name, found, _internal, partitions, allowed, _tags),) = answer.topics
    error = for_code(code)
    if error is not NoError:
        raise error(topic)
    return found, partitions, allowed


async def topic_id(admin: AIOKafkaAdminClient, topic: str) -> str:
    """Return the id of ``topic``. Raises aiokafka's error where there is none."""
    return (await described(admin, topic)).id


class TopicIds:
    """The ids as last seen, for callers that can't wait for an answer."""

    def __init__(self, admin: ClientPool[AIOKafkaAdminClient]) -> None:
        self._admin = admin
        self._seen: dict[str, str] = {}

    async def now(self, topic: str) -> str:
        """Return the id of ``topic``.

        Raises:
            TransportUnavailable: Kafka can't say now, or there is no such topic.
        """
        return (await self.describe(topic)).id

    async def describe(self, topic: str) -> Described:
        """Return the id of ``topic`` and the leaders of its partitions.

        Raises:
            TransportUnavailable: Kafka can't say now, or there is no such topic.
        """
        found = await self._admin.ask(lambda admin: described(admin, topic))
        self._seen[topic] = found.id
        return found

    def last_seen(self, topic: str) -> str | None:
        """Return the id that was seen last, if any."""
        return self._seen.get(topic)
