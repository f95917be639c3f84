"""The message id, which is derived from the idempotency key: the same key always has the same id.

No look-up is needed, in Redis, Kafka or PostgreSQL, even after every cache has expired (promise 4).
The id is an RFC 9562 UUID, version 8:

    bits   0-31   murmur2 of the conversation id: the id alone gives the partition, for any number
                  of partitions (so a receipt needs no look-up to find its message's partition)
    bits  32-127  SHA-256 of the idempotency key, without the six version and variant bits (90 bits)
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from uuid import UUID

from transport.message.partitioner import KNOWN_CONVERSATIONS, key_hash, partition_of_hash

__all__ = ["idempotency_key", "message_id", "partition_of"]

# Version 8 is the first digit of the third group, and the variant, binary 10, the upper half of the
# fourth's (RFC 9562, section 5.8).
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def idempotency_key(sender_id: str, conversation_id: str, client_message_id: str) -> str:
    """Return the key of the three ids, which is unique to them: ``sender:conversation:client``.

    A ``:`` or ``%`` inside a part is percent-encoded, so two different triples never collide.

    Args:
        sender_id: ``senderId`` of the message.
        conversation_id: its ``conversationId``.
        client_message_id: its ``clientMessageId``.
    """
    key = f"{sender_id}:{conversation_id}:{client_message_id}"
    if "%" not in key and key.count(":") == 2:  # noqa: PLR2004 - the two separators just written
        return key
    return ":".join(
        part.replace("%", "%25").replace(":", "%3A")
        for part in (sender_id, conversation_id, client_message_id)
    )


def message_id(key: str, conversation_id: str) -> str:
    """Return the id of the message that has this key, as canonical UUID text.

    Args:
        key: the key, made by ``idempotency_key``.
        conversation_id: the conversation, whose hash the id begins with.
    """
    digest = sha256(key.encode()).hexdigest()
    # Made of text: arithmetic on the 128 bits gives the same id in twice the time.
    return (
        f"{_home(conversation_id)}-{digest[:4]}-8{digest[5:8]}"
        f"-{_VARIANT[digest[8]]}{digest[9:12]}-{digest[12:24]}"
    )


@lru_cache(maxsize=KNOWN_CONVERSATIONS)
def _home(conversation_id: str) -> str:
    """Return the first digits of a conversation's ids: its hash as text (cached)."""
    return f"{key_hash(conversation_id):08x}"


def partition_of(message: str | UUID, partitions: int) -> int:
    """Return the partition of the conversation that ``message`` belongs to.

    Args:
        message: an id made by ``message_id``. Any other UUID gives some valid partition.
        partitions: the log's number of partitions.

    Raises:
        ValueError: ``message`` is text, and no UUID.
    """
    value = message.int if isinstance(message, UUID) else UUID(message).int
    return partition_of_hash(value >> 96, partitions)
