"""Append to two logs as the shadow does, and see how far the workers' group is in each."""

from __future__ import annotations

import msgspec

from tests.persistence.samples import PARTITIONS
from transport.contract import WORKER_GROUP, Appended, Envelope, Record, Topic, Transport
from transport.envelope import (
    HEADER_MIRROR_OF,
    HEADER_SHADOW_MODE,
    Message,
    seal_message,
    seal_receipt,
)


def seal(event) -> Envelope:
    if isinstance(event, Envelope):
        return event
    sealed = seal_message if isinstance(event, Message) else seal_receipt
    return sealed(event, partitions=PARTITIONS, traceparent=None)


def copy_of(envelope: Envelope, log: str, offset: str, mode: str = "sync") -> Envelope:
    """The copy of what stands in ``log`` at ``offset``."""
    more = {HEADER_MIRROR_OF: f"{log}:{offset}", HEADER_SHADOW_MODE: mode}
    return msgspec.structs.replace(envelope, headers={**envelope.headers, **more})


async def append(transport: Transport, *events) -> list[str]:
    """Append to one log; return the offsets."""
    outcomes = await transport.publish([seal(event) for event in events], remember=False)
    assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    return [outcome.offset for outcome in outcomes]


async def mirror(
    primary: Transport, shadow: Transport, *events, mode: str = "sync", dropped: tuple = ()
) -> list[str]:
    """Append to ``primary``, and copies to ``shadow`` without those that are ``dropped``."""
    offsets = await append(primary, *events)
    copies = [
        copy_of(seal(event), primary.name, offset, mode)
        for event, offset in zip(events, offsets, strict=True)
        if event not in dropped
    ]
    await append(shadow, *copies)
    return offsets


async def lag(transport: Transport) -> int:
    return sum(p.lag for p in await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))


async def drained(transport: Transport) -> bool:
    return await lag(transport) == 0


async def unread(transport: Transport, partition: int) -> list[Record]:
    """What the group has not acknowledged in a partition."""
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return list(
        await transport.read(Topic.MESSAGES, partition, after=progress[partition].floor, limit=5000)
    )
