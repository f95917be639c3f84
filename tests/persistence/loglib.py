"""Put things into the test's log, and see what became of them."""

from __future__ import annotations

import msgspec

from tests.persistence.samples import PARTITIONS
from transport.contract import DLQ_GROUP, WORKER_GROUP, Appended, DeadLetter, Envelope, Topic
from transport.message.dead_letters import dead_letter_of
from transport.message.envelope import Message, seal_message, seal_receipt
from transport.message.partitioner import partition_for


async def append(transport, *events, traceparent=None) -> None:
    envelopes = [
        event
        if isinstance(event, Envelope)
        else (seal_message if isinstance(event, Message) else seal_receipt)(
            event, partitions=PARTITIONS, traceparent=traceparent
        )
        for event in events
    ]
    for outcome in await transport.publish(envelopes, remember=False):
        assert isinstance(outcome, Appended), outcome


def raw(body: bytes, conversation: str = "conv", **headers: str) -> Envelope:
    """Bytes that are no envelope of ours, in the partition of ``conversation``."""
    return Envelope("raw", partition_for(conversation, PARTITIONS), conversation, body, headers)


def broken(message: Message) -> Envelope:
    """A message that PostgreSQL refuses: its text has a NUL."""
    sealed = seal_message(message, partitions=PARTITIONS, traceparent=None)
    body = sealed.body.replace(message.content.encode(), b"\\u0000" + message.content.encode())
    return msgspec.structs.replace(sealed, body=body)


async def lag(transport, topic=Topic.MESSAGES) -> int:
    group = WORKER_GROUP if topic is Topic.MESSAGES else DLQ_GROUP
    return sum(p.lag for p in await transport.progress(topic, group=group))


async def indexed(transport) -> bool:
    return await lag(transport, Topic.DEAD_LETTERS) == 0


async def letters(transport) -> list[DeadLetter]:
    return [dead_letter_of(r) for r in await transport.read(Topic.DEAD_LETTERS, 0)]


async def contents(pool, conversation="conv") -> list[str]:
    rows = await pool.fetch(
        "SELECT content FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
    )
    return [row["content"] for row in rows]
