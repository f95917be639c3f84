"""Messages and receipts to persist."""

from __future__ import annotations

from itertools import count

from persistence.store.batch import PositionedEvent
from transport.clock import now
from transport.contract import Record, Topic
from transport.message.envelope import Message, Receipt, seal_message, seal_receipt
from transport.message.identity import idempotency_key, message_id

_offsets = count(1)

PARTITIONS = 4


def message(
    client: str = "c1", conversation: str = "conv", content: str = "hello", **more
) -> Message:
    sender = more.pop("sender", "alice")
    key = idempotency_key(sender, conversation, client)
    identifier = message_id(key, conversation)
    fields = {
        "recipient_ids": ("bob",),
        "message_id": identifier,
        "idempotency_key": key,
        "accepted_at": now(),
        "correlation_id": f"corr-{client}",
        **more,
    }
    return Message(conversation, sender, client, content, "text", **fields)


def receipt(of: Message, user: str = "bob", state: str = "delivered") -> Receipt:
    return Receipt(of.message_id, user, state, now(), of.correlation_id)


def placed(
    event: Message | Receipt, partition: int = 0, transport: str = "redis"
) -> PositionedEvent:
    return PositionedEvent(event, transport, partition, f"{next(_offsets)}-0", None)


def record(event: Message | Receipt, partition: int = 0, **more) -> Record:
    seal = seal_message if isinstance(event, Message) else seal_receipt
    envelope = seal(event, partitions=PARTITIONS, traceparent=more.pop("traceparent", None))
    return raw_record(
        envelope.body,
        partition,
        key=envelope.key,
        headers={k: v.encode() for k, v in envelope.headers.items()},
    )


def raw_record(body: bytes, partition: int = 0, **more) -> Record:
    fields = {"key": "k", "headers": {}, "appended_at": 1_764_000_000.0, **more}
    return Record(Topic.MESSAGES, partition, f"{next(_offsets)}-0", body=body, **fields)
