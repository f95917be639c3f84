"""One statement for several partitions, of which none depends on another (promises 2, 3, 6)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from persistence.errors import FenceLost, Outage, Rejected, Unexpected
from persistence.store.batch import FencedBatch, Written
from persistence.store.group_writer import GroupWriter
from persistence.store.writer import Writer
from tests.persistence.fences import owned
from tests.persistence.loglib import contents
from tests.persistence.samples import PARTITIONS, message, placed, receipt

POISON = "a NUL: \0"
ENOUGH = 48  # rows that wait for no others, as in group_writer.py


class CountedWriter(Writer):
    """The real one; notes the partitions of each joint statement, and of each one alone."""

    def __init__(self, pool) -> None:
        super().__init__(pool)
        self.joint: list[list[int]] = []
        self.alone: list[int] = []

    async def write_unless_locked(self, batch, fence):
        self.alone.append(fence.partition)
        return await super().write_unless_locked(batch, fence)

    async def write_together(self, batches, connection):
        self.joint.append([batch.fence.partition for batch in batches])
        return await super().write_together(batches, connection)


@pytest.fixture
def counted(database_pool) -> CountedWriter:
    return CountedWriter(database_pool)


@pytest.fixture
def group(counted) -> GroupWriter:
    return GroupWriter(counted, most_rows=500, slots=5)


@pytest.fixture
async def fences(counted):
    return [await owned(counted, "redis", partition, 1, "test") for partition in range(PARTITIONS)]


def batch(partition: int, *contents: str, name: str = "m"):
    return [
        placed(message(f"{name}{partition}-{n}", f"conv{partition}", content), partition)
        for n, content in enumerate(contents)
    ]


def nobody(_began: int, _error: BaseException | None) -> None:
    """Trace nothing."""


async def write_all(group, fences, batches):
    writes = (group.write(b, fence, nobody) for b, fence in zip(batches, fences, strict=False))
    return await asyncio.gather(*writes, return_exceptions=True)


async def rows(pool, partition: int) -> list[str]:
    return await contents(pool, f"conv{partition}")


async def test_batches_that_are_ready_at_once_are_one_statement(
    group, counted, fences, database_pool
):
    batches = [batch(p, "first", "second", "third") for p in range(PARTITIONS)]
    assert await write_all(group, fences, batches) == [Written([0, 1, 2], [], [])] * PARTITIONS
    assert (counted.joint, counted.alone) == ([[0, 1, 2, 3]], [])
    for partition in range(PARTITIONS):
        assert await rows(database_pool, partition) == ["first", "second", "third"]


async def test_what_comes_during_a_statement_is_the_next_one(
    group, counted, fences, database_url, database_pool, eventually
):
    blocker = await asyncpg.connect(database_url)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("LOCK TABLE messages IN SHARE MODE")
    first = asyncio.create_task(group.write(batch(0, "a"), fences[0], nobody))
    await eventually(
        lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    )
    rest = [
        asyncio.create_task(group.write(batch(p, "b"), fences[p], nobody))
        for p in range(1, PARTITIONS)
    ]
    await asyncio.sleep(0)
    await blocking.rollback()
    await blocker.close()
    assert await asyncio.gather(first, *rest) == [Written([0], [], [])] * PARTITIONS
    assert counted.joint == [[0], [1, 2, 3]]


async def test_partitions_that_have_their_next_batch_at_once_are_in_the_next_statement(
    group, counted, fences, database_url, eventually
):
    async def write(partition: int, *names: str) -> None:
        for name in names:
            rows = batch(partition, *["a"] * ENOUGH, name=name)
            await group.write(rows, fences[partition], nobody)

    blocker = await asyncpg.connect(database_url)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("LOCK TABLE messages IN SHARE MODE")
    writes = [asyncio.create_task(write(partition, "m", "n")) for partition in (0, 1)]
    await eventually(lambda: counted.joint)
    writes.append(asyncio.create_task(write(2, "m")))
    await asyncio.sleep(0)
    await blocking.rollback()
    await blocker.close()
    await asyncio.gather(*writes)
    assert [sorted(partitions) for partitions in counted.joint] == [[0, 1], [0, 1, 2]]


async def test_few_rows_that_closely_follow_others_wait_for_more(counted, fences, database_pool):
    group = GroupWriter(counted, most_rows=500, slots=5, pace=600)
    assert await group.write(batch(0, "a"), fences[0], nobody) == Written([0], [], [])
    few = asyncio.create_task(group.write(batch(1, *["b"] * (ENOUGH // 2)), fences[1], nobody))
    more = asyncio.create_task(group.write(batch(2, "b"), fences[2], nobody))
    for _ in range(20):  # time enough to begin a statement
        await database_pool.fetchval("SELECT 1")
    assert counted.joint == [[0]], "the first is written at once"
    last = asyncio.create_task(group.write(batch(3, *["c"] * (ENOUGH // 2 - 1)), fences[3], nobody))
    await asyncio.gather(few, more, last)
    assert [sorted(partitions) for partitions in counted.joint[1:]] == [[1, 2, 3]], "rows enough"


async def test_a_row_that_nothing_follows_is_written_soon(counted, fences):
    group = GroupWriter(counted, most_rows=500, slots=5, pace=0.05)
    for name in ("a", "b"):
        assert await group.write(batch(0, name, name=name), fences[0], nobody) == Written(
            [0], [], []
        )
    assert counted.joint == [[0], [0]]


async def test_a_lost_fence_stops_its_partition_alone(group, counted, fences, database_pool):
    await owned(counted, "redis", 1, 2, "newer")
    event = message("of 1", "conv1")
    batches = [batch(0, "a"), [placed(event, 1), placed(receipt(event), 1)], batch(2, "c")]
    first, lost, last = await write_all(group, fences, batches)
    assert first == last == Written([0], [], [])
    assert isinstance(lost, FenceLost)
    assert counted.joint == [[0, 1, 2]]
    assert await rows(database_pool, 1) == []
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 0


async def test_repeats_and_conflicts_are_told_to_their_own_partition(group, fences, database_pool):
    await write_all(group, fences, [batch(p, "a", "b") for p in range(PARTITIONS)])
    event = message("new", "conv3")
    again = [
        batch(0, "a", "b", "new"),
        batch(1, "a", "another body"),
        batch(2, "a", "b"),
        [placed(event, 3), placed(receipt(event), 3), placed(receipt(event), 3)],
    ]
    assert await write_all(group, fences, again) == [
        Written([2], [0, 1], []),
        Written([], [0], [1]),
        Written([], [0, 1], []),
        Written([0, 1], [2], []),
    ]
    assert await rows(database_pool, 1) == ["a", "b"]


async def test_an_id_that_is_used_for_two_keys_is_no_row_of_the_key_that_has_none(
    group, fences, database_pool
):
    """A stranger's records. Which of the two is a row must not be mixed up between partitions."""
    known = message("known", "conv0", "first")
    await group.write([placed(known, 0)], fences[0], nobody)
    stolen = message("other", "conv1")
    conflicting = message("known", "conv0", "second", message_id=stolen.message_id)
    batches = [[placed(conflicting, 0)], [placed(stolen, 1)]]
    assert await write_all(group, fences, batches) == [
        Written([], [], [0]),
        Written([0], [], []),
    ]


async def test_a_bad_record_fails_its_own_batch_alone(group, counted, fences, database_pool):
    batches = [batch(0, "a"), batch(1, "b", POISON), batch(2, "c"), batch(3, "d")]
    outcomes = await write_all(group, fences, batches)
    assert isinstance(outcomes.pop(1), Rejected)
    assert outcomes == [Written([0], [], [])] * 3
    assert sorted(counted.alone) == [0, 1, 2, 3]
    assert [await rows(database_pool, p) for p in range(PARTITIONS)] == [["a"], [], ["c"], ["d"]]


async def test_an_error_that_is_not_understood_is_that_of_its_own_partition(
    group, counted, fences, database_pool
):
    """What no rule is for may be the fault of one record."""
    await database_pool.execute(
        """
        CREATE FUNCTION puzzle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.content = 'puzzle' THEN RAISE EXCEPTION 'odd' USING ERRCODE = 'ZZ999'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER puzzle BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION puzzle()
        """
    )
    batches = [batch(0, "a"), batch(1, "puzzle"), batch(2, "c")]
    first, puzzled, last = await write_all(group, fences, batches)
    assert first == last == Written([0], [], [])
    assert isinstance(puzzled, Unexpected)
    assert (counted.joint, sorted(counted.alone)) == ([[0, 1, 2]], [0, 1, 2])


async def test_a_partition_that_failed_spoils_no_other_statement(group, counted, fences):
    """It is written alone until it has been well for a while."""
    await write_all(group, fences, [batch(0, POISON), batch(1, "b")])
    counted.joint.clear()
    counted.alone.clear()
    for n in range(20):
        outcomes = await write_all(
            group, fences, [batch(0, POISON, name=f"{n}"), batch(1, "b", name=f"{n}")]
        )
        assert isinstance(outcomes[0], Rejected)
        assert outcomes[1] == Written([0], [], [])
    assert counted.joint == [[1]] * 20
    assert counted.alone == [0] * 20
    for n in range(20):
        await write_all(group, fences, [batch(p, "c", name=f"well{n}") for p in (0, 1)])
    assert counted.joint[-1] == [0, 1]


async def test_a_row_that_is_locked_holds_up_its_own_partition_alone(
    group, counted, fences, database_url, database_pool
):
    """Another program's transaction has the key, and does not end."""
    [mine] = batch(1, "mine")
    other = await asyncpg.connect(database_url)
    holding = other.transaction()
    await holding.start()
    await Writer(database_pool).write(batch(3, "a row to copy"), None)
    await other.execute(
        "INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,"
        " client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at,"
        " transport, partition, log_offset)"
        " SELECT $1, $2, correlation_id, conversation_id, sender_id, client_message_id,"
        " recipient_ids, content, content_type, fingerprint, accepted_at, transport, partition,"
        " log_offset FROM messages",
        mine.event.message_id,
        mine.event.idempotency_key,
    )
    held = asyncio.create_task(group.write([mine], fences[1], nobody))
    others = [asyncio.create_task(group.write(batch(p, "a"), fences[p], nobody)) for p in (0, 2)]
    async with asyncio.timeout(10):
        assert await asyncio.gather(*others) == [Written([0], [], [])] * 2
        later = await group.write(batch(0, "b", name="later"), fences[0], nobody)
    assert later == Written([0], [], [])
    assert not held.done()
    await holding.rollback()
    await other.close()
    assert await held == Written([0], [], [])


async def test_partitions_that_are_locked_hold_up_no_partition_of_their_statement(
    group, fences, database_url
):
    """More of them than statements that may run alone."""
    other = await asyncpg.connect(database_url)
    holding = other.transaction()
    await holding.start()
    await other.execute("SELECT FROM log_positions WHERE partition < 3 FOR UPDATE")
    written = [asyncio.create_task(group.write(batch(p, "a"), fences[p], nobody)) for p in range(4)]
    async with asyncio.timeout(15):
        assert await written[3] == Written([0], [], [])
    assert not any(task.done() for task in written[:3])
    await holding.rollback()
    await other.close()
    assert await asyncio.gather(*written) == [Written([0], [], [])] * 4


class HangingWriter(CountedWriter):
    """The real one, whose first joint statement gets no answer until it is released."""

    def __init__(self, pool) -> None:
        super().__init__(pool)
        self.released = asyncio.Event()

    async def write_together(self, batches, connection):
        outcome = await super().write_together(batches, connection)
        if len(self.joint) == 1:
            await self.released.wait()
        return outcome


async def test_a_joint_statement_that_hangs_stops_its_own_partitions_alone(
    database_pool, database_url, fences, eventually
):
    writer = HangingWriter(database_pool)
    group = GroupWriter(writer, most_rows=500, slots=5)
    hung = asyncio.create_task(group.write(batch(0, "a"), fences[0], nobody))
    await eventually(lambda: writer.joint)
    async with asyncio.timeout(15):
        assert await group.write(batch(1, "b"), fences[1], nobody) == Written([0], [], [])
    assert not hung.done()
    writer.released.set()
    assert await hung == Written([0], [], [])
    blocker = await asyncpg.connect(database_url)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("LOCK TABLE messages IN SHARE MODE")
    parts = [(partition, batch(partition, "c", name="later")) for partition in range(3)]
    later = []
    for partition, records in parts:
        later.append(asyncio.create_task(group.write(records, fences[partition], nobody)))
        await eventually(
            lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
        )
    await blocking.rollback()
    await blocker.close()
    assert await asyncio.gather(*later) == [Written([0], [], [])] * 3
    assert writer.joint[-2:] == [[0], [1, 2]], "and is forgotten once it has ended"


async def test_who_waited_out_an_outage_goes_on_alone(group, counted, fences, database_pool):
    """What one partition's records do to the database must not become the others' for ever."""
    await database_pool.execute("ALTER TABLE messages RENAME TO gone")
    batches = [batch(p, "a") for p in range(PARTITIONS)]
    outcomes = await write_all(group, fences, batches)
    assert all(isinstance(outcome, Outage) for outcome in outcomes)
    assert (len(counted.joint), counted.alone) == (1, [])
    await database_pool.execute("ALTER TABLE gone RENAME TO messages")
    assert await write_all(group, fences, batches) == [Written([0], [], [])] * PARTITIONS
    assert len(counted.joint) == 1


async def test_who_is_cancelled_cancels_no_other(group, fences, database_pool):
    cancelled = asyncio.create_task(group.write(batch(0, "a"), fences[0], nobody))
    other = asyncio.create_task(group.write(batch(1, "b"), fences[1], nobody))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == Written([0], [], [])
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_two_claims_of_a_partition_are_never_in_one_statement(group, counted, fences):
    """A partition that came back before its last claim ended: each has its own fence."""
    newer = await owned(counted, "redis", 0, 2, "test")
    old, new = await write_all(group, [fences[0], newer], [batch(0, "a"), batch(0, "b", name="n")])
    assert isinstance(old, FenceLost)
    assert new == Written([0], [], [])
    assert counted.joint == [[0], [0]]


async def test_a_full_statement_does_not_wait_for_the_others(counted, fences):
    group = GroupWriter(counted, most_rows=3, slots=5)
    batches = [batch(p, *"abc") for p in range(PARTITIONS)]
    assert await write_all(group, fences, batches) == [Written([0, 1, 2], [], [])] * PARTITIONS
    assert sorted(counted.joint) == [[0], [1], [2], [3]]


async def test_a_full_batch_waits_for_the_one_before_it_in_its_partition(
    counted, fences, database_url, database_pool, eventually
):
    """Beside it, it would find the position moved, and the fence lost."""
    group = GroupWriter(counted, most_rows=3, slots=5)
    blocker = await asyncpg.connect(database_url)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("LOCK TABLE messages IN SHARE MODE")
    writes = [
        asyncio.create_task(group.write(batch(0, *contents, name=name), fences[0], nobody))
        for name, contents in (("m", "abc"), ("n", "def"))
    ]
    other = asyncio.create_task(group.write(batch(1, *"ghi"), fences[1], nobody))
    await eventually(lambda: len(counted.joint) == 2)
    assert sorted(counted.joint) == [[0], [1]]
    await blocking.rollback()
    await blocker.close()
    assert await other == Written([0, 1, 2], [], [])
    assert await asyncio.gather(*writes) == [Written([0, 1, 2], [], [])] * 2
    assert await rows(database_pool, 0) == list("abcdef")


async def test_what_waits_behind_a_batch_that_fails_is_written_one_after_the_other(
    group, fences, database_url, database_pool, eventually
):
    blocker = await asyncpg.connect(database_url)
    blocking = blocker.transaction()
    await blocking.start()
    await blocker.execute("LOCK TABLE messages IN SHARE MODE")
    writes = list[asyncio.Task[Written]]()
    for name, content in (("bad", POISON), ("m", "a"), ("n", "b")):
        write = group.write(batch(0, content, name=name), fences[0], nobody)
        writes.append(asyncio.create_task(write))
        await eventually(
            lambda: database_pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
        )
    await blocking.rollback()
    await blocker.close()
    ended = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(ended[0], Rejected)
    assert ended[1:] == [Written([0], [], [])] * 2
    assert await rows(database_pool, 0) == ["a", "b"]


async def test_statements_of_two_processes_that_meet_in_their_rows_both_end(writer, database_pool):
    """The same messages, read from two logs of other partition counts, in opposite orders."""
    mine = [await owned(writer, "redis", p, 1, "mine") for p in (0, 1)]
    theirs = [await owned(writer, "kafka", p, 1, "theirs") for p in (2, 3)]
    for n in range(20):
        events = [message(f"{n}-{m}", f"conv{m}") for m in range(100)]
        half = len(events) // 2
        first = [
            FencedBatch([placed(e, 0) for e in events[:half]], mine[0]),
            FencedBatch([placed(e, 1) for e in events[half:]], mine[1]),
        ]
        second = [
            FencedBatch([placed(e, 2, "kafka") for e in events[half:]], theirs[0]),
            FencedBatch([placed(e, 3, "kafka") for e in events[:half]], theirs[1]),
        ]
        groups = [GroupWriter(writer, most_rows=500, slots=5) for _ in range(2)]
        outcomes = await asyncio.gather(
            *(
                group.write(part.records, part.fence, nobody)
                for group, parts in zip(groups, (first, second), strict=True)
                for part in parts
            )
        )
        assert sum(len(outcome.persisted) for outcome in outcomes) == len(events)
        assert sum(len(outcome.duplicates) for outcome in outcomes) == len(events)
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 20 * 100
