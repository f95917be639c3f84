"""One fetch request for many partitions, and its answer, by aiokafka's own protocol classes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from transport.kafka.client.parsing import FetchedRecords

__all__ = ["Fetched", "answered", "fetch_request", "unpacked"]

_PARTITION_BYTES = 1024 * 1024
_ANSWER_BYTES = 4 * 1024 * 1024
"""The most bytes of an answer, unless one batch is larger: it is unpacked in the event loop."""
_WITH_REPLICA = 11  # the version of the answer that names a nearer replica (KIP-392)


class Fetched(NamedTuple):
    """A partition in the answer: its error (or ``None``), or its batches, still packed.

    ``replica`` is the node to fetch it from next, in our rack; -1: no other than now.
    """

    error: type[Exception] | None
    replica: int
    aborted: Any
    data: bytes


def fetch_request(
    positions: Mapping[TopicPartition, int], *, wait_ms: int, rack: str | None
) -> FetchRequest:
    """Return the request for committed records from these offsets on.

    The broker may wait ``wait_ms`` for the first record.
    """
    topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for at, offset in positions.items():
        topics[at.topic].append((at.partition, offset, _PARTITION_BYTES))
    for partitions in topics.values():
        # The broker fills its answer in the order of the request. So vary the first partition.
        first = random.randrange(len(partitions))  # noqa: S311 - no secret
        partitions[:] = partitions[first:] + partitions[:first]
    order = list(topics.items())
    random.shuffle(order)
    return FetchRequest(wait_ms, 1, _ANSWER_BYTES, READ_COMMITTED, order, rack_id=rack or "")


def answered(answer: Any) -> dict[TopicPartition, Fetched]:
    """Return the partitions with records, an error or a nearer replica; idle ones may be absent."""
    found: dict[TopicPartition, Fetched] = {}
    names_replica = answer.API_VERSION >= _WITH_REPLICA
    for topic, partitions in answer.topics:
        for partition, code, _end, *rest in partitions:
            error = for_code(code)
            aborted, replica = (rest[2], rest[3]) if names_replica else (rest[-2], -1)
            found[TopicPartition(topic, partition)] = Fetched(
                None if error is NoError else error, replica, aborted, rest[-1] or b""
            )
    return found


def unpacked(
    at: TopicPartition, fetched: Fetched, start: int
) -> tuple[Sequence[ConsumerRecord], int]:
    """Return the records of a partition from ``start`` on, and the offset to fetch next.

    Records of aborted transactions are left out.
    """
    records = PartitionRecords(
        at, FetchedRecords(fetched.data), fetched.aborted, start, None, None, True, READ_COMMITTED
    )
    # aiokafka goes back to the end of each batch before ``start``, and returns the next from there.
    found = [record for record in records if record.offset >= start]
    return found, max(start, records.next_fetch_offset)
