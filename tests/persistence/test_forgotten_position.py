"""A standby has a position forgotten, unless a worker came after it."""

from __future__ import annotations

from persistence.store.writer import Writer


async def test_a_standby_that_slept_forgets_no_newer_owners_position(
    writer: Writer, database_pool
) -> None:
    standby = await writer.take("redis", 3, 5, "standby")
    await writer.move(standby, "1-1")
    await writer.forget_position("redis", 3, standby.epoch)
    assert await writer.position("redis", 3) is None
    worker = await writer.take("redis", 3, 6, "worker")
    await writer.move(worker, "2-1")
    await writer.forget_position("redis", 3, standby.epoch)
    assert await writer.position("redis", 3) == "2-1"
