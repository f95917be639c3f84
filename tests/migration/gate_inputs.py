"""A gate is asked; the rows that a test has before."""

from __future__ import annotations

import msgspec

from migration_guide.gates import judge
from persistence.store.writer import Writer
from tests.persistence.samples import placed
from transport.contract import Progress, Topic, Transport
from transport.features.forwarding import Forwarding

__all__ = ["GAP", "ReportedProgress", "ask", "persist"]

GAP = """
INSERT INTO shadow_gaps (transport, shadow, partition, kind, records, noted_by, noted_at)
VALUES ('redis', 'kafka', 3, 'full', 79, 'a', clock_timestamp())
"""


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


async def persist(pool, *events) -> None:
    """Make rows, and leave the positions where they are."""
    await Writer(pool).write([placed(event) for event in events], None)
