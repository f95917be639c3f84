"""The advisory locks of an insert: all inserts of one conversation share one, so they are serial.

Whatever log a message comes from, and however many partitions that log has: the lock depends on the
conversation's hash alone. It is one of a fixed number of buckets, so PostgreSQL's lock table can't
be filled. Partitions share no bucket where their number divides ``BUCKETS``, so processes that own
different ones never wait for each other.

The release before this one locks the number of the partition. While processes of both may run, a
statement takes those locks too, first.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

from transport.message.partitioner import partition_for

__all__ = ["BUCKETS", "inserters", "lock_of", "locks_of"]

BUCKETS = 960
"""Divided by 12, 15, 16, 20, 24, 30, 32, 48, 60 and 64."""


def lock_of(conversation_id: str) -> int:
    """Return the lock of a conversation. Negative, so that it is no partition's number."""
    return partition_for(conversation_id, BUCKETS) - BUCKETS


def locks_of(partitions: Iterable[int], conversation_ids: Iterable[str]) -> list[int]:
    """Return the locks of a batch in the order in which every statement takes them."""
    return [*sorted(set(partitions)), *sorted(set(map(lock_of, conversation_ids)))]


def inserters(partitions: int) -> int:
    """Return how many of a log's partitions can insert rows at once: others share their locks."""
    return gcd(partitions, BUCKETS)
