"""Processes share partitions by PostgreSQL's rows, and no partition stays without an owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from otel.metrics import Metrics
from persistence.database.outage import database_barrier
from persistence.errors import FenceLost
from persistence.ownership.partition_owner import PartitionOwner
from persistence.store.writer import Writer

PARTITIONS = list(range(5))


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Process:
    """A process that owns partitions of the log ``redis``, and its heartbeat."""

    def __init__(self, pool, member: str, *, until_forgotten: bool = False) -> None:
        self.pool = pool
        self.member = member
        self.serving: dict[int, int] = {}
        self.errors: list[Exception] = []
        self.stop = asyncio.Event()
        metrics = Metrics()
        self.barrier = database_barrier(Writer(pool).probe, metrics, longest=0.1)
        self.owner = PartitionOwner(
            pool,
            "redis",
            PARTITIONS,
            member=member,
            database_barrier=self.barrier,
            metrics=metrics,
            serve=self._serve,
            until_forgotten=until_forgotten,
        )
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.beat()
        self.task = asyncio.create_task(self.owner.run(self.stop))

    async def beat(self, seconds_ago: float = 0.0) -> None:
        await self.pool.execute(
            """
            INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url,
                transport, consume_from, started_at, seen_at, owned)
            VALUES ($1, 'all', 'h', 1, '0', '', '', 'redis', 'redis', now(),
                now() - make_interval(secs => $2), '{"redis": {}}')
            ON CONFLICT (member) DO UPDATE SET seen_at = excluded.seen_at
            """,
            self.member,
            seconds_ago,
        )

    async def leave(self) -> None:
        """Stop as a process does at a clean end."""
        self.stop.set()
        assert self.task is not None
        await self.task
        await self.pool.execute("DELETE FROM processes WHERE member = $1", self.member)

    async def die(self) -> None:
        """End as a killed process does: it gives nothing back, and its heartbeat gets old."""
        assert self.task is not None
        await ended(self.task)
        await self.beat(seconds_ago=11.0)

    async def _serve(self, partition: int, epoch: int, leave: asyncio.Event) -> None:
        if self.errors:
            raise self.errors.pop()
        self.serving[partition] = epoch
        try:
            await leave.wait()
        finally:
            del self.serving[partition]


@pytest.fixture
async def process(database_pool) -> AsyncIterator[Callable[..., Process]]:
    async with AsyncExitStack() as stack:

        def make(member: str, **more) -> Process:
            made = Process(database_pool, member, **more)

            async def end() -> None:
                if made.task is not None:
                    await ended(made.task)

            stack.push_async_callback(end)
            return made

        yield make


def shared(*processes: Process) -> bool:
    """Whether each partition is served by exactly one process, with fair shares."""
    served = [partition for process in processes for partition in process.serving]
    sizes = [len(process.serving) for process in processes]
    return sorted(served) == PARTITIONS and max(sizes) - min(sizes) <= 1


async def test_processes_get_fair_shares_and_give_back_what_is_beyond_theirs(process, eventually):
    one, two, three = process("p1"), process("p2"), process("p3")
    await one.start()
    await eventually(lambda: shared(one))
    kept = dict(one.serving)
    await two.start()
    await eventually(lambda: shared(one, two))
    assert one.serving.items() <= kept.items()  # what it keeps, it keeps without an end between
    await three.start()
    await eventually(lambda: shared(one, two, three))
    await two.leave()
    await eventually(lambda: shared(one, three))


async def test_each_owner_has_a_higher_epoch_than_the_one_before(process, eventually):
    one, two = process("p1"), process("p2")
    await one.start()
    await eventually(lambda: shared(one))
    before = dict(one.serving)
    await one.leave()
    await two.start()
    await eventually(lambda: shared(two))
    assert all(two.serving[partition] == before[partition] + 1 for partition in PARTITIONS)


async def test_a_dead_process_loses_its_partitions_and_a_live_one_does_not(process, eventually):
    one, two = process("p1"), process("p2")
    await one.start()
    await eventually(lambda: shared(one))
    await two.start()
    await eventually(lambda: shared(one, two))
    kept = dict(two.serving)
    await one.die()
    await eventually(lambda: shared(two))
    assert kept.items() <= two.serving.items()


async def test_an_owner_leaves_a_partition_that_another_process_has_taken(process, eventually):
    """It was suspended for longer than its heartbeat counts, and wakes."""
    one, two = process("p1"), process("p2")
    await one.start()
    await eventually(lambda: shared(one))
    await one.beat(seconds_ago=11.0)
    await two.start()
    await eventually(lambda: shared(two) and not one.serving)
    await one.beat()
    await eventually(lambda: shared(one, two))


async def test_fences_that_are_others_after_a_restore_are_taken_anew(
    process, database_pool, eventually
):
    one = process("p1")
    await one.start()
    await eventually(lambda: shared(one))
    before = dict(one.serving)
    await database_pool.execute("UPDATE fences SET epoch = 40, owner = 'long gone'")
    await eventually(lambda: shared(one) and one.serving != before)
    assert set(one.serving.values()) == {41}


async def test_what_was_taken_without_an_answer_is_taken_again(process, database_pool, eventually):
    await database_pool.execute(
        "INSERT INTO fences (transport, partition, epoch, owner)"
        " SELECT 'redis', n, 7, 'p1' FROM generate_series(0, 4) AS n"
    )
    one = process("p1")
    await one.start()
    await eventually(lambda: shared(one))
    assert set(one.serving.values()) == {8}


async def test_a_restore_to_before_a_partition_was_given_back_leaves_none_without_an_owner(
    process, database_pool, eventually
):
    one, two = process("w1"), process("w2")
    await one.start()
    await eventually(lambda: sorted(one.serving) == PARTITIONS)
    before = await database_pool.fetch("SELECT partition, epoch, owner FROM fences")
    await two.start()
    await eventually(lambda: shared(one, two))
    await database_pool.executemany(
        "UPDATE fences SET epoch = $2, owner = $3 WHERE partition = $1", list(map(tuple, before))
    )

    async def are_owners() -> bool:
        for each in (one, two):
            await each.beat()
        rows = await database_pool.fetch("SELECT partition, epoch, owner FROM fences")
        owned = {(row["owner"], row["partition"], row["epoch"]) for row in rows}
        served = {(it.member, *pair) for it in (one, two) for pair in it.serving.items()}
        return shared(one, two) and owned == served

    await eventually(are_owners)


async def test_an_error_pauses_one_partition_and_a_lost_fence_ends_its_work(process, eventually):
    one = process("p1")
    one.errors = [RuntimeError("a defect"), FenceLost("the position is elsewhere")]
    await one.start()
    await eventually(lambda: shared(one))
    assert not one.errors


async def test_an_outage_ends_no_work_and_is_waited_out(process, database_pool, eventually):
    one, two = process("p1"), process("p2")
    await one.start()
    await eventually(lambda: shared(one))
    epochs = dict(one.serving)
    await database_pool.execute("ALTER TABLE fences RENAME TO away")
    await two.start()
    await eventually(lambda: one.barrier.paused() and two.barrier.paused())
    assert one.serving == epochs
    assert not two.serving
    await database_pool.execute("ALTER TABLE away RENAME TO fences")
    await eventually(lambda: shared(one, two))


async def test_who_drains_a_log_owns_nothing_once_it_is_forgotten(
    process, database_pool, eventually
):
    """Or the processes that drain it would record it as used again and again."""
    one, two = (process(member, until_forgotten=True) for member in ("p1", "p2"))
    for each in (one, two):
        await each.start()
    await eventually(lambda: shared(one, two))
    for each in (one, two):
        await each.beat()
    await database_pool.execute("DELETE FROM fences WHERE partition <> 0")
    await eventually(lambda: not (one.serving or two.serving))

    async def is_forgotten() -> bool:
        return await database_pool.fetchval("SELECT count(*) FROM fences") == 0

    await eventually(is_forgotten)
