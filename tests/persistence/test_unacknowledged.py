"""A worker that dies after the commit and before the acknowledgement (promise 2)."""

from __future__ import annotations

import asyncio

from tests.persistence.loglib import append, contents, lag
from tests.persistence.samples import message


class Unacknowledged:
    """The real log, whose claims never get to acknowledge."""

    def __init__(self, inner) -> None:
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def consume(self, topic, *, group, member, linger=0.0):
        consumer = self._inner.consume(topic, group=group, member=member, linger=linger)
        claims = consumer.claims

        async def silent():
            async for claim in claims():
                claim.ack = lambda _through: asyncio.Event().wait()
                yield claim

        consumer.claims = silent
        return consumer


async def test_a_crash_between_commit_and_acknowledgement_doubles_nothing(
    start, transport, database_pool, eventually
):
    events = [message(f"c{n}", f"conv{n % 40}", f"{n}") for n in range(200)]
    await append(transport, *events)
    crashed = start(log=Unacknowledged(transport))
    await eventually(lambda: crashed.count("persisted") == len(events))
    await crashed.kill()
    assert await lag(transport) == len(events)
    again = start(member="w2")

    async def is_acknowledged() -> bool:
        return await lag(transport) == 0

    await eventually(is_acknowledged)
    assert (again.count("duplicate"), again.count("persisted")) == (len(events), 0)
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == len(events)
    for n in range(40):
        assert await contents(database_pool, f"conv{n}") == [f"{m}" for m in range(n, 200, 40)]
