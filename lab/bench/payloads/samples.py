"""Messages of 64 KiB of English-like text, whose content is in a payload store."""

from __future__ import annotations

import random
from collections.abc import Iterator

from transport.clock import now
from transport.contract import Envelope
from transport.message.envelope import Message, seal_message
from transport.message.identity import idempotency_key, message_id
from transport.message.payload import ContentDigest, payload_key

__all__ = ["CONTENT_BYTES", "content", "envelopes", "keys"]

CONTENT_BYTES = 65_536

_LETTERS = "etaoinshrdlu"
_WORDS = 2000
_CONVERSATIONS = 1000


def content(size: int = CONTENT_BYTES) -> bytes:
    """Return ``size`` bytes of words, always the same; LZ4 halves them, as it does English text."""
    dice = random.Random(18)
    words = ["".join(dice.choices(_LETTERS, k=dice.randrange(2, 10))) for _ in range(_WORDS)]
    return " ".join(dice.choices(words, k=size // 3)).encode()[:size]


def envelopes(count: int, *, partitions: int = 16) -> Iterator[Envelope]:
    """Yield records of ``count`` messages with the same content, each under a key of its own."""
    digest = ContentDigest()
    digest.add(content())
    payload = digest.payload("", "text", ())
    for message in _messages(count):
        key = payload_key(message.message_id, payload.sha256)
        named = message.with_payload(
            type(payload)(key, payload.bytes, payload.sha256, payload.fingerprint)
        )
        yield seal_message(named, partitions=partitions, traceparent=None)


def keys(count: int) -> Iterator[str]:
    """Yield the keys of the payload objects of ``envelopes(count)``."""
    digest = ContentDigest()
    digest.add(content())
    for message in _messages(count):
        yield payload_key(message.message_id, digest.sha256)


def _messages(count: int) -> Iterator[Message]:
    accepted_at = now()
    for n in range(count):
        conversation = f"large-conversation-{n % _CONVERSATIONS:06d}"
        sender, client_id = f"user_{n % 1000:04d}", f"large-{n:012d}"
        key = idempotency_key(sender, conversation, client_id)
        identifier = message_id(key, conversation)
        yield Message(
            conversation_id=conversation,
            sender_id=sender,
            client_message_id=client_id,
            content="",
            content_type="text",
            recipient_ids=(),
            message_id=identifier,
            idempotency_key=key,
            accepted_at=accepted_at,
            correlation_id=identifier,
        )
