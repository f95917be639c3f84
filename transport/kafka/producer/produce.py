"""The Produce request, encoded and decoded by hand in one version.

aiokafka describes each field of a request as an object, and goes through these objects for every
partition. That takes longer than everything else for a small batch. The layout is Produce, version
7, of Kafka's protocol guide: the last version whose answer has a fixed size for each partition.
Kafka supports it from 2.1 (2018) on, also in 4.x (KIP-896 removed versions 0 to 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from struct import Struct
from typing import Any, Self

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Schema

__all__ = ["Produce"]

_KEY, _VERSION = 0, 7
_ALL_IN_STEP = -1
_HEAD = Struct(">hhii")  # no transactional id, acks, timeout in ms, number of topics
_LENGTH, _COUNT = Struct(">h"), Struct(">i")
_RECORDS = Struct(">ii")  # partition, length of its batch
_ACKNOWLEDGED = Struct(">ihqqq")  # partition, error, offset of the first, time, start of the log

Topics = Mapping[str, Iterable[tuple[int, bytes]]]


class _ProduceResponse(Response):  # type: ignore[misc] # aiokafka is not typed
    API_KEY, API_VERSION, SCHEMA = _KEY, _VERSION, Schema()

    def __init__(
        self, partitions: dict[tuple[str, int], tuple[int, int, int]], throttled_ms: int
    ) -> None:
        self.partitions = partitions
        self.throttled_ms = throttled_ms

    @classmethod
    def decode(cls, data: BytesIO) -> Self:
        raw = data.read()
        partitions = {}
        (topics,) = _COUNT.unpack_from(raw)
        at = _COUNT.size
        for _ in range(topics):
            (length,) = _LENGTH.unpack_from(raw, at)
            at += _LENGTH.size
            topic = raw[at : at + length].decode()
            (count,) = _COUNT.unpack_from(raw, at + length)
            at += length + _COUNT.size
            end = at + count * _ACKNOWLEDGED.size
            for partition, code, offset, time, _ in _ACKNOWLEDGED.iter_unpack(raw[at:end]):
                partitions[topic, partition] = (code, offset, time)
            at = end
        (throttled_ms,) = _COUNT.unpack_from(raw, at)
        return cls(partitions, throttled_ms)


class _ProduceRequest(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, SCHEMA = _KEY, _VERSION, Schema()
    RESPONSE_TYPE = _ProduceResponse

    def __init__(self, topics: Topics, milliseconds: int) -> None:
        self._topics = topics
        self._milliseconds = milliseconds

    def encode(self) -> bytes:
        parts = [_HEAD.pack(-1, _ALL_IN_STEP, self._milliseconds, len(self._topics))]
        for topic, batches in self._topics.items():
            name = topic.encode()
            records: list[bytes] = []
            for partition, batch in batches:
                records += (_RECORDS.pack(partition, len(batch)), batch)
            parts += (_LENGTH.pack(len(name)), name, _COUNT.pack(len(records) // 2), *records)
        return b"".join(parts)


class Produce(Request[_ProduceRequest]):  # type: ignore[misc]
    """Asks a leader to append one batch to each of these partitions, on all in-sync replicas.

    ``milliseconds`` is the time that the leader may wait for the other replicas. The answer has
    ``partitions``, with an error code (0: none), the first record's offset and the log's time of
    the append in milliseconds (-1: records have the producer's) for each, and ``throttled_ms``, the
    time to send nothing because our quota is used up (KIP-219).
    """

    API_KEY = _KEY
    required_acks = _ALL_IN_STEP

    def __init__(self, topics: Topics, milliseconds: int) -> None:
        self._request = _ProduceRequest(topics, milliseconds)

    def build(self, request_struct_class: Any) -> _ProduceRequest:  # noqa: ARG002 - there is one
        """Return the request to send; called by aiokafka for the version that it chose."""
        return self._request
