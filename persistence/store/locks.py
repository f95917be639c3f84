"""The advisory locks of inserts: a conversation has one lock, so its inserts are serial.

The lock depends only on the hash of the conversation id, not on the log or its number of
partitions. It is one of a fixed number of buckets, so PostgreSQL's lock table can't be filled. If
the number of partitions divides ``BUCKETS``, no two partitions share a bucket, so processes that
own different partitions never wait for each other.

The previous release locks the number of the partition instead. While processes of both releases may
run, a statement takes those locks too, first.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

from transport.message.partitioner import partition_for

__all__ = ["BUCKETS", "inserters", "lock_of", "locks_of"]

BUCKETS = 960
"""Divided by 12, 15, 16, 20, 24, 30, 32, 48, 60 and 64."""


def lock_of(conversation_id: str) -> int:
    """Return the lock of a conversation. It is negative, so it is never a partition's number."""
    return partition_for(conversation_id, BUCKETS) - BUCKETS


def locks_of(partitions: Iterable[int], conversation_ids: Iterable[str]) -> list[int]:
    """Return the locks of a batch in the order in which every statement takes them."""
    return [*sorted(set(partitions)), *sorted(set(map(lock_of, conversation_ids)))]


def inserters(partitions: int) -> int:
    """Return how many of a log's partitions can insert rows at once: others share their locks."""
    return gcd(partitions, BUCKETS)
