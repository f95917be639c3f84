"""What the order argument (``docs/order.md``) assumes of the service, broken once each.

Each test does by hand what the service never does, and sees the harm: so the tests that see no harm
would have seen it.
"""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from persistence.worker.batch.decoding import decode_all
from persistence.worker.log_follower import LogFollower
from tests.persistence.loglib import contents
from tests.persistence.samples import PARTITIONS, message
from tests.support.mirrors import append, copy_of, drained, mirror, seal
from transport.contract import WORKER_GROUP, Topic


async def pass_everything(transport, pool) -> None:
    """A follower that does not ask."""
    log = await transport.identity()
    for part in await transport.progress(Topic.MESSAGES, group=WORKER_GROUP):
        await pool.execute(
            "INSERT INTO log_positions (transport, partition, epoch, through, log)"
            " VALUES ($1, $2, 0, $3, $4)",
            transport.name,
            part.partition,
            part.end or "",
            log,
        )


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "blind"])
async def test_a_follower_that_does_not_ask_loses_what_nobody_persisted(
    start, transport, other, database_pool, eventually, asks
):
    """CONSUME_FROM changes while the old workers have persisted nothing yet."""
    await mirror(transport, other, *(message(f"c{i}", content=f"{i}") for i in range(20)))
    if asks:
        follower = start(LogFollower, log=other)
        await eventually(follower.consumer.waiting)
        await follower.stop()
    else:
        await pass_everything(other, database_pool)
    start(log=other, member="new")
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ([f"{i}" for i in range(20)] if asks else [])


@pytest.mark.parametrize("same", [True, False], ids=["same", "differ"])
async def test_partitions_that_differ_are_seen_to_reorder(
    start, transport, other, database_pool, writer, eventually, same
):
    """Another partition is another place: what is before it says nothing of this message."""
    first, second = message("c1", content="first"), message("c2", content="second")
    offsets = await append(transport, first, second)
    copies = [
        copy_of(seal(event), "redis", offset)
        for event, offset in zip((first, second), offsets, strict=True)
    ]
    if not same:
        moved = (copies[0].partition + 1) % PARTITIONS
        copies[0] = msgspec.structs.replace(copies[0], partition=moved)
    await append(other, *copies)
    # A reader of the second message's partition alone, as one of several processes may be.
    records = await other.read(Topic.MESSAGES, copies[1].partition)
    placed, _, _ = decode_all(records, "memory")
    await writer.write(placed, None)
    start()
    await eventually(partial(drained, transport))
    expected = ["first", "second"] if same else ["second", "first"]
    assert await contents(database_pool) == expected
