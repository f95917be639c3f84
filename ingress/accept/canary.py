"""The canary: which conversations are queued, and which are persisted directly.

The choice hangs on the conversation alone, so every process makes the same one, a conversation is
never split, and raising the percentage only adds conversations to the queued ones.
"""

from __future__ import annotations

from zlib import crc32

__all__ = ["bucket", "queued"]

_BUCKETS = 100


def bucket(conversation_id: str) -> int:
    """Return the conversation's place in 0 to 99, for ever.

    Not the partitioner's hash: the canary must be a slice of every partition.
    """
    return crc32(b"canary:" + conversation_id.encode()) % _BUCKETS


def queued(conversation_id: str, percent: int) -> bool:
    """Return whether the conversation is among the ``percent`` of 100 that are queued."""
    return bucket(conversation_id) < percent
