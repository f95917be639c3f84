"""The partitioner: a conversation's partition, by the murmur2 hash of Kafka's Java client.

Every transport gets the partition explicitly, so partition 7 in Redis is partition 7 in Kafka. A
native Kafka producer in another language chooses the same one, if its key is the conversation id.

Source of the rule: ``org.apache.kafka.common.utils.Utils.murmur2`` and ``toPositive``. The mask
matters: without it the result differs for half the keys at 12 or 15 partitions, and for none at 16.
"""

from __future__ import annotations

from functools import lru_cache
from struct import unpack_from

__all__ = ["KNOWN_CONVERSATIONS", "key_hash", "murmur2", "partition_for", "partition_of_hash"]

KNOWN_CONVERSATIONS = 1 << 14
"""The number of conversations whose hash is cached. Each takes a third of a kilobyte, with its text
in ids; full caches take 6 MB. A hash costs some two microseconds."""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK32 = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit murmur2 hash of ``data``, as an unsigned integer."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for word in unpack_from(f"<{length >> 2}I", data):
        k = (word * _M) & _MASK32
        h = ((h * _M) ^ ((k ^ (k >> 24)) * _M)) & _MASK32
    if whole < length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK32
    h = ((h ^ (h >> 13)) * _M) & _MASK32
    return h ^ (h >> 15)


@lru_cache(maxsize=KNOWN_CONVERSATIONS)
def _hash_of(conversation_id: str) -> int:
    # Most messages belong to a known conversation, so hash each conversation once.
    return murmur2(conversation_id.encode())


def key_hash(conversation_id: str) -> int:
    """Return the unsigned 32-bit hash of a conversation id (cached)."""
    return _hash_of(conversation_id)


def partition_for(conversation_id: str, partitions: int) -> int:
    """Return the partition that holds a conversation.

    Args:
        conversation_id: the conversation.
        partitions: the log's number of partitions.

    Returns:
        A number from 0 to ``partitions`` - 1.
    """
    return (_hash_of(conversation_id) & 0x7FFFFFFF) % partitions


def partition_of_hash(hashed: int, partitions: int) -> int:
    """Return the partition for a hash that ``key_hash`` returned."""
    return (hashed & 0x7FFFFFFF) % partitions
