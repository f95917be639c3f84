"""A round is judged when all its records are acknowledged, and the letters that they became."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from compose.soak.drained import drained
from tests.support.eventually import eventually
from transport.contract import (
    DLQ_GROUP,
    WORKER_GROUP,
    Claim,
    DeadLetter,
    Envelope,
    Progress,
    Reason,
    Topic,
)
from transport.memory.transport import MemoryTransport
from transport.settings import TransportSettings


class WatchedTransport(MemoryTransport):
    """Counts the looks at each topic."""

    def __init__(self) -> None:
        super().__init__(TransportSettings(stream_partitions=1))
        self.looks: Counter[Topic] = Counter()

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        found = await super().progress(topic, group=group)
        self.looks[topic] += 1
        return found


def envelope(number: int) -> Envelope:
    return Envelope(message_id=str(number), partition=0, key="k", body=b"", headers={})


@asynccontextmanager
async def claimed(log: MemoryTransport, topic: Topic, group: str) -> AsyncIterator[Claim]:
    async with log.consume(topic, group=group, member="m") as member:
        async for claim in member.claims():
            async with claim:
                yield claim
            return


async def test_a_letter_that_comes_while_it_drains_is_waited_for() -> None:
    log = WatchedTransport()
    await log.publish([envelope(0), envelope(1)])
    async with (
        claimed(log, Topic.MESSAGES, WORKER_GROUP) as messages,
        claimed(log, Topic.DEAD_LETTERS, DLQ_GROUP) as letters,
    ):
        records = await messages.next(max_records=2, max_wait=0)
        await messages.ack(records[0].offset)
        draining = asyncio.create_task(drained(log, within=60))
        await eventually(lambda: log.looks[Topic.MESSAGES])
        await log.dead_letter([DeadLetter(records[1], Reason.REJECTED, "why", 1, "2026-11-27")])
        await messages.ack(records[1].offset)
        await eventually(lambda: draining.done() or log.looks[Topic.DEAD_LETTERS] > 1)
        assert not draining.done(), "the letter has no row yet"
        (letter,) = await letters.next(max_records=2, max_wait=0)
        await letters.ack(letter.offset)
        await asyncio.wait_for(draining, 10)


async def test_what_follows_meanwhile_is_not_waited_for() -> None:
    log = WatchedTransport()
    await log.publish([envelope(0)])
    async with claimed(log, Topic.MESSAGES, WORKER_GROUP) as messages:
        (record,) = await messages.next(max_records=2, max_wait=0)
        draining = asyncio.create_task(drained(log, within=60))
        await eventually(lambda: log.looks[Topic.MESSAGES])
        await log.publish([envelope(1)])
        await messages.ack(record.offset)
        await asyncio.wait_for(draining, 10)
