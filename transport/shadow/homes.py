"""A conversation's home: the partition of a log that has its records.

It is a pure function of the conversation's hash and the log's number of partitions, so logs with
different numbers need not ask each other. All code that places a copy, looks for one, or compares
two logs uses this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import gcd
from typing import Protocol
from uuid import UUID

from transport.contract import Envelope, Record
from transport.message.envelope import HEADER_MESSAGE_ID
from transport.message.partitioner import key_hash, partition_of_hash
from transport.shadow.origin import origin_of

__all__ = ["PartitionedLog", "counterpart", "home", "home_of"]

home = partition_of_hash
"""``home(hash, partitions)``: the partition of the conversation that has this hash."""


class PartitionedLog(Protocol):
    """The part of a transport that this module needs."""

    @property
    def name(self) -> str:
        """The log's name."""

    @property
    def partitions(self) -> int:
        """The log's number of partitions."""


def home_of(record: Record | Envelope, own_partitions: int, partitions: int) -> int:
    """Return the home of a record in a log of ``partitions`` partitions.

    A foreign producer may have put the record into another partition than its key's. Then the
    record's partition decides: records that share a partition here share one there.

    Args:
        record: The record or envelope.
        own_partitions: The number of partitions of its own log.
        partitions: The number of partitions of the other log.
    """
    if own_partitions == partitions:
        return record.partition
    for hashed in _hashes(record):
        if home(hashed, own_partitions) == record.partition:
            return home(hashed, partitions)
    return record.partition % partitions


def counterpart(record: Record, log: PartitionedLog, other: PartitionedLog) -> int:
    """Return the partition of ``other`` that has, or would have, the same record as ``log``.

    A copy from ``other`` names the partition of its original, which is ignored if it is impossible.
    """
    origin = origin_of(record)
    if origin is not None and origin.transport == other.name:
        apart = (origin.partition - record.partition) % gcd(log.partitions, other.partitions)
        if origin.partition < other.partitions and not apart:
            return origin.partition
    return home_of(record, log.partitions, other.partitions)


def _hashes(record: Record | Envelope) -> Iterator[int]:
    """Yield the hashes that the key may have, the likelier first.

    The key of a message is its conversation. The key of a receipt is the message's id, which begins
    with the hash.
    """
    key = record.key
    identifier = record.headers.get(HEADER_MESSAGE_ID)
    if isinstance(identifier, bytes):
        identifier = identifier.decode("utf-8", "replace")
    if identifier == key:
        yield from _hash_in(key)
    try:
        hashed = key_hash(key)
    except UnicodeEncodeError:
        pass  # a key that is no text has no hash
    else:
        yield hashed
    if identifier is None:
        yield from _hash_in(key)


def _hash_in(identifier: str) -> Iterator[int]:
    """Yield the hash that a message id begins with."""
    with suppress(ValueError):
        yield UUID(identifier).int >> 96
