"""The message id is derived from the idempotency key, so the same key has the same id for ever.

No look-up is needed for that: not in Redis, not in Kafka, not in PostgreSQL, not after any cache
has expired (promise 4). The id is an RFC 9562 UUID, version 8::

    bits   0-31   murmur2 of the conversation id: the partition can be told from the id alone,
                  for any number of partitions (a receipt needs no look-up to join its message)
    bits  32-127  SHA-256 of the idempotency key, less the six version and variant bits (90 bits)
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from transport.partitioner import key_hash, partition_of_hash

__all__ = ["idempotency_key", "message_id", "partition_of"]

_LOW96 = (1 << 96) - 1
# Version 8 stands in bits 48-51 and the variant '10' in bits 64-65 (RFC 9562, section 5.8),
# counted from the most significant bit.
_CLEAR = ~((0xF << 76) | (0x3 << 62)) & _LOW96
_VERSION_8 = (0x8 << 76) | (0x2 << 62)


def idempotency_key(sender_id: str, conversation_id: str, client_message_id: str) -> str:
    """Return the one spelling of the triple, unique to it: ``sender:conversation:client``.

    A ``:`` or ``%`` inside a part is percent-encoded, so two different triples never collide.
    """
    key = f"{sender_id}:{conversation_id}:{client_message_id}"
    if "%" not in key and key.count(":") == 2:  # noqa: PLR2004 - the two separators just written
        return key
    return ":".join(
        part.replace("%", "%25").replace(":", "%3A")
        for part in (sender_id, conversation_id, client_message_id)
    )


def message_id(key: str, conversation_id: str) -> str:
    """Return the canonical UUID text for an idempotency key made by :func:`idempotency_key`."""
    digest = int.from_bytes(sha256(key.encode()).digest()[:12], "big")
    value = (key_hash(conversation_id) << 96) | (digest & _CLEAR) | _VERSION_8
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def partition_of(message: str | UUID, partitions: int) -> int:
    """Return the partition of the conversation that ``message`` belongs to.

    ``message`` is an id made by :func:`message_id`; any other UUID gives some valid partition.
    """
    value = message.int if isinstance(message, UUID) else UUID(message).int
    return partition_of_hash(value >> 96, partitions)
