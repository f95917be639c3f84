"""The canary: it chooses which conversations are queued and which are persisted directly.

The choice depends on the conversation's id alone. So every process makes the same choice, a
conversation is never split, and a higher percentage only adds queued conversations.
"""

from __future__ import annotations

from zlib import crc32

__all__ = ["bucket", "queued"]

_BUCKETS = 100


def bucket(conversation_id: str) -> int:
    """Return the conversation's bucket, from 0 to 99. It never changes.

    The hash is not the partitioner's, because the canary must be a slice of every partition.
    """
    return crc32(b"canary:" + conversation_id.encode()) % _BUCKETS


def queued(conversation_id: str, percent: int) -> bool:
    """Return whether the conversation is among the ``percent`` of 100 that are queued."""
    return bucket(conversation_id) < percent
