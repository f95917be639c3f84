"""A round is judged when all its records are settled, and the dead letters that they became."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from lab.soak.drained import drained
from tests.support.eventually import eventually
from transport.contract import (
    DLQ_GROUP,
    WORKER_GROUP,
    DeadLetter,
    Envelope,
    Progress,
    Reason,
    Record,
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


async def settle(log: MemoryTransport, record: Record) -> None:
    group = WORKER_GROUP if record.topic is Topic.MESSAGES else DLQ_GROUP
    await log.publish_positions(record.topic, {0: record.offset}, group=group)


async def test_a_letter_that_comes_while_it_drains_is_waited_for() -> None:
    log = WatchedTransport()
    await log.publish([envelope(0), envelope(1)])
    first, second = await log.read(Topic.MESSAGES, 0)
    await settle(log, first)
    draining = asyncio.create_task(drained(log, within=60))
    await eventually(lambda: log.looks[Topic.MESSAGES])
    await log.dead_letter([DeadLetter(second, Reason.REJECTED, "why", 1, "2026-11-27")])
    await settle(log, second)
    await eventually(lambda: draining.done() or log.looks[Topic.DEAD_LETTERS] > 1)
    assert not draining.done(), "the dead letter has no row yet"
    (dead_letter,) = await log.read(Topic.DEAD_LETTERS, 0)
    await settle(log, dead_letter)
    await asyncio.wait_for(draining, 10)


async def test_what_follows_meanwhile_is_not_waited_for() -> None:
    log = WatchedTransport()
    await log.publish([envelope(0)])
    (record,) = await log.read(Topic.MESSAGES, 0)
    draining = asyncio.create_task(drained(log, within=60))
    await eventually(lambda: log.looks[Topic.MESSAGES])
    await log.publish([envelope(1)])
    await settle(log, record)
    await asyncio.wait_for(draining, 10)
