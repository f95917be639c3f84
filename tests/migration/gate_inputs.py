"""A gate is asked; what the workers of a test did before."""

from __future__ import annotations

import time

import msgspec

from migration_guide.gates import judge
from persistence.store.writer import Writer
from tests.persistence.samples import placed
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.features.forwarding import Forwarding

__all__ = ["ReportedProgress", "acknowledge", "ask", "persist"]


class ReportedProgress(Forwarding):
    """A log that says of every partition's progress what a test wants it to."""

    def __init__(self, inner: Transport, *, parts: int | None = None, **changes) -> None:
        super().__init__(inner)
        self.changes = changes
        self.parts = parts

    async def progress(self, topic: Topic, *, group: str) -> list[Progress]:
        told = await self.inner.progress(topic, group=group)
        return [msgspec.structs.replace(part, **self.changes) for part in told][: self.parts]


async def ask(scene, name: str):
    (result,) = await judge(scene, [name])
    assert result.name == name
    return result


async def acknowledge(log) -> None:
    """Let the workers' group acknowledge everything that is there."""
    left = {p.partition: p.end for p in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)}
    async with log.consume(Topic.MESSAGES, group=WORKER_GROUP, member="reader") as consumer:
        async for claim in consumer.claims():
            end = left.pop(claim.partition)
            while end is not None:
                records = await claim.next(max_records=500, max_wait=5)
                if records:
                    await claim.ack(records[-1].offset)
                    end = None if records[-1].offset == end else end
            if not left:
                return


async def persist(pool, *events) -> None:
    writer = Writer(pool)
    fence = await writer.take("redis", 0, time.time_ns(), "test")
    await writer.write([placed(event) for event in events], fence)
