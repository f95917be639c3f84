"""Appends to two logs as the shadow does, and reads the workers' progress in each."""

from __future__ import annotations

from tests.persistence.samples import PARTITIONS
from transport.contract import WORKER_GROUP, Appended, Envelope, Record, Topic, Transport
from transport.message.envelope import Message, seal_message, seal_receipt
from transport.shadow.copies import mirrored
from transport.shadow.homes import home_of
from transport.shadow.origin import Origin


def seal(event, partitions: int = PARTITIONS) -> Envelope:
    if isinstance(event, Envelope):
        return event
    sealed = seal_message if isinstance(event, Message) else seal_receipt
    return sealed(event, partitions=partitions, traceparent=None)


def copy_of(
    envelope: Envelope, log: str, offset: str, mode: str = "sync", home: int | None = None
) -> Envelope:
    """Return the copy of the record at ``offset`` of ``log``, for its partition or ``home``."""
    of = Origin(log, envelope.partition, offset)
    return mirrored(envelope, of, mode, home=envelope.partition if home is None else home)


async def append(transport: Transport, *events) -> list[str]:
    """Append to one log; return the offsets."""
    envelopes = [seal(event, transport.partitions) for event in events]
    outcomes = await transport.publish(envelopes, remember=False)
    assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
    return [outcome.offset for outcome in outcomes]


async def mirror(
    primary: Transport,
    shadow: Transport,
    *events,
    mode: str = "sync",
    dropped: tuple = (),
    offsets: list[str] | None = None,
) -> list[str]:
    """Append to ``primary``, and copies to ``shadow`` except those in ``dropped``.

    With ``offsets``, the originals are in ``primary`` already, at these offsets.
    """
    offsets = offsets or await append(primary, *events)
    copies = []
    for event, offset in zip(events, offsets, strict=True):
        if event not in dropped:
            sealed = seal(event, primary.partitions)
            home = home_of(sealed, primary.partitions, shadow.partitions)
            copies.append(copy_of(sealed, primary.name, offset, mode, home))
    await append(shadow, *copies)
    return offsets


async def lag(transport: Transport) -> int:
    return sum(p.lag for p in await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))


async def drained(transport: Transport) -> bool:
    return await lag(transport) == 0


async def unread(transport: Transport, partition: int) -> list[Record]:
    """Return the records of a partition that the group has not acknowledged."""
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return list(
        await transport.read(Topic.MESSAGES, partition, after=progress[partition].floor, limit=5000)
    )
