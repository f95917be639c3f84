"""Envelopes to append in tests, and the contents of the records that are read."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from transport.clock import now
from transport.contract import Envelope, Record, Transport
from transport.message.envelope import Message, decode, seal_message
from transport.message.identity import idempotency_key, message_id
from transport.message.partitioner import partition_for

__all__ = ["contents", "message", "messages", "stored", "until"]

_numbers = itertools.count(1)


def message(text: str, *, partition: int, of: Transport) -> Envelope:
    """Return the envelope of a message whose conversation has its home in ``partition``."""
    conversation = next(
        name
        for name in (f"conversation-{i}" for i in itertools.count())
        if partition_for(name, of.partitions) == partition
    )
    client_id = f"client-{next(_numbers)}"
    key = idempotency_key("sender", conversation, client_id)
    return seal_message(
        Message(
            conversation_id=conversation,
            sender_id="sender",
            client_message_id=client_id,
            content=text,
            content_type="text",
            message_id=message_id(key, conversation),
            idempotency_key=key,
            accepted_at=now(),
            correlation_id=f"correlation-{client_id}",
        ),
        partitions=of.partitions,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


def messages(texts: Sequence[str], *, partition: int, of: Transport) -> list[Envelope]:
    """Return one envelope per text, all of one partition."""
    return [message(text, partition=partition, of=of) for text in texts]


def contents(records: Sequence[Record]) -> list[str]:
    """Return the contents of the messages in ``records``."""
    texts = []
    for record in records:
        event = decode(record)
        assert isinstance(event, Message)
        texts.append(event.content)
    return texts


def stored(records: Sequence[Record]) -> list[Record]:
    """Return records as the log has them, without what the memory of their process adds."""
    return [msgspec.structs.replace(each, event=None, fingerprint="") for each in records]


async def until(condition: Callable[[], bool | Awaitable[bool]], *, patience: float) -> None:
    """Return once ``condition`` is true."""
    deadline = time.monotonic() + patience
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"not so within {patience} s"
        await asyncio.sleep(0.01)
