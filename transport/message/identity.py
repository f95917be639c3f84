"""The message id is derived from the idempotency key, so the same key has the same id for ever.

No look-up is needed for that: not in Redis, not in Kafka, not in PostgreSQL, not after any cache
has expired (promise 4). The id is an RFC 9562 UUID, version 8:

    bits   0-31   murmur2 of the conversation id: the partition can be told from the id alone,
                  for any number of partitions (a receipt needs no look-up to join its message)
    bits  32-127  SHA-256 of the idempotency key, less the six version and variant bits (90 bits)
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
    """Return the one spelling of the triple, unique to it: ``sender:conversation:client``.

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
    # Text all the way: arithmetic on the 128 bits gives the same id in twice the time.
    return (
        f"{_home(conversation_id)}-{digest[:4]}-8{digest[5:8]}"
        f"-{_VARIANT[digest[8]]}{digest[9:12]}-{digest[12:24]}"
    )


@lru_cache(maxsize=KNOWN_CONVERSATIONS)
def _home(conversation_id: str) -> str:
    """Return the hash of a conversation as its ids begin: its text costs more than the look-up."""
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
