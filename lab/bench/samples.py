"""Makes envelopes as the ingress does, of messages like those of the load generator."""

from __future__ import annotations

from collections.abc import Iterator

from transport.clock import now
from transport.contract import Envelope
from transport.message.envelope import Message, seal_message
from transport.message.identity import idempotency_key, message_id

__all__ = ["envelopes"]


def envelopes(
    count: int,
    *,
    run: str,
    partitions: int = 16,
    conversations: int = 1000,
    content_bytes: int = 64,
) -> Iterator[Envelope]:
    """Yield ``count`` envelopes of distinct messages."""
    content = ("Load test message " + "x" * content_bytes)[:content_bytes]
    accepted_at = now()
    for n in range(count):
        conversation = f"{run}-conversation-{n % conversations:06d}"
        sender, client_id = f"user_{n % 1000:04d}", f"{run}-{n:012d}"
        key = idempotency_key(sender, conversation, client_id)
        identifier = message_id(key, conversation)
        message = Message(
            conversation_id=conversation,
            sender_id=sender,
            client_message_id=client_id,
            content=content,
            content_type="text",
            recipient_ids=(f"user_{(n + 1) % 1000:04d}",),
            message_id=identifier,
            idempotency_key=key,
            accepted_at=accepted_at,
            correlation_id=identifier,
        )
        yield seal_message(message, partitions=partitions, traceparent=None)
