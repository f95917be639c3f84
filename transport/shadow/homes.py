"""A conversation's home: the one partition of a log that its records stand in.

A pure function of the conversation's hash and the log's number of partitions, so two logs of
different counts need not ask each other. Whatever places a copy, looks for one, or compares two
logs computes it here.
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

__all__ = ["Named", "counterpart", "home", "home_of"]

home = partition_of_hash
"""``home(hash, partitions)``: the partition of the conversation that has this hash."""


class Named(Protocol):
    """The part of a transport that says where records stand."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def partitions(self) -> int:
        """Its number of partitions."""


def home_of(record: Record | Envelope, stands_among: int, partitions: int) -> int:
    """Return the home, among ``partitions``, of a record that stands among ``stands_among``.

    A record that does not stand where its key says (a foreign producer's, with a partitioner of its
    own) goes with its partition: all that are together here are together there.
    """
    if stands_among == partitions:
        return record.partition
    for hashed in _hashes(record):
        if home(hashed, stands_among) == record.partition:
            return home(hashed, partitions)
    return record.partition % partitions


def counterpart(record: Record, log: Named, other: Named) -> int:
    """Return the partition of ``other`` that has, or would have, a record of ``log`` too.

    A copy from ``other`` says it itself; what can't be true is not believed.
    """
    origin = origin_of(record)
    if origin is not None and origin.transport == other.name:
        apart = (origin.partition - record.partition) % gcd(log.partitions, other.partitions)
        if origin.partition < other.partitions and not apart:
            return origin.partition
    return home_of(record, log.partitions, other.partitions)


def _hashes(record: Record | Envelope) -> Iterator[int]:
    """Yield the hashes that the key may stand for, the likelier first.

    A message's key is its conversation, a receipt's its message's id, which begins with the hash.
    """
    key = record.key
    identifier = record.headers.get(HEADER_MESSAGE_ID)
    if isinstance(identifier, bytes):
        identifier = identifier.decode("utf-8", "replace")
    if identifier == key:
        yield from _hash_in(key)
    with suppress(UnicodeEncodeError):  # bytes that are no text say nothing
        yield key_hash(key)
    if identifier is None:
        yield from _hash_in(key)


def _hash_in(identifier: str) -> Iterator[int]:
    """Yield the hash that a message id begins with."""
    with suppress(ValueError):
        yield UUID(identifier).int >> 96
