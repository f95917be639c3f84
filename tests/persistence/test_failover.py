"""A primary is lost, and its standby was behind: what the log has becomes rows again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import Any

import asyncpg
import pytest

from persistence.database.pool import connect, using
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.errors import FenceLost, Outage
from persistence.reads.messages import conversation as read_page
from persistence.settings import PersistenceSettings
from persistence.store.positions import Opened
from persistence.store.writer import Writer
from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.fences import owned
from tests.persistence.loglib import append, broken, lag
from tests.persistence.samples import PARTITIONS, message, placed, record
from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings
from tests.support.metric_values import value_of
from tests.support.postgres_pair import PostgresPair, base_backup, pair, run
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, DeadLetter, Reason, Topic, Transport
from transport.kafka import KafkaTransport
from transport.message.envelope import Message
from transport.message.partitioner import partition_for
from transport.redis import RedisTransport

CONVERSATIONS = 7
HELD = 3  # records that stay in a partition once they are rows
# Repeats take numbers, and have no rows with which these come back.
REPEATS = "SELECT nextval(pg_get_serial_sequence('messages', 'seq')) FROM generate_series(1, 1000)"

# The last row of a batch waits for the lock 1.
HELD_BACK = """
CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END $$;
CREATE TRIGGER hold_back BEFORE INSERT ON messages FOR EACH ROW
    WHEN (new.client_message_id = 'lost-011') EXECUTE FUNCTION hold_back()
"""


@pytest.fixture
async def servers(migrated_postgres, tmp_path):
    async with pair(migrated_postgres, tmp_path) as both:
        yield both


@pytest.fixture
async def pool(servers: PostgresPair):
    made = await connect(PersistenceSettings(database_url=servers.url))
    yield made
    made.terminate()


def messages(kind: str, count: int, content: str = "hello") -> list[Message]:
    return [message(f"{kind}-{n:03}", f"conv{n % CONVERSATIONS}", content) for n in range(count)]


async def rows(pool: asyncpg.Pool) -> dict[str, list[tuple[str, str]]]:
    """Return the id and the client's id of each message, by conversation, in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in await pool.fetch("SELECT * FROM messages ORDER BY seq"):
        placed = found.setdefault(row["conversation_id"], [])
        placed.append((str(row["id"]), row["client_message_id"]))
    return found


async def read_through(pool: asyncpg.Pool) -> dict[str, int]:
    """Return the number of each conversation's last row: where its reader goes on later."""
    found = await pool.fetch("SELECT conversation_id, max(seq) FROM messages GROUP BY 1")
    return dict(map(tuple, found))


async def rows_after(
    pool: asyncpg.Pool, places: Mapping[str, int]
) -> dict[str, list[tuple[str, str]]]:
    """Return what a reader of each conversation finds after its place, as ``rows`` does."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, after in places.items():
        page, _ = await read_page(pool, name, after, 1000, most_bytes=2**25)
        found[name] = [(one.message.message_id, one.message.client_message_id) for one in page]
    return found


def expected(*sent: list) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for event in chain.from_iterable(sent):
        found.setdefault(event.conversation_id, []).append(
            (event.message_id, event.client_message_id)
        )
    return found


async def persisted(transport, *events) -> None:
    await append(transport, *events)

    async def done() -> bool:
        return await lag(transport) == 0

    await eventually(done)


@pytest.fixture(params=["redis", "kafka"])
def unopened_log(request, transport_settings):
    small = {"stream_partitions": PARTITIONS}
    if request.param == "redis":
        return RedisTransport(transport_settings.model_copy(update=small))
    settings = fresh_settings(request.getfixturevalue("kafka_node").bootstrap)
    return KafkaTransport(settings.model_copy(update={"stream_partitions": PARTITIONS}))


@pytest.fixture
async def log(unopened_log):
    async with unopened_log as opened:
        yield opened


@pytest.mark.parametrize("worker", ["lives", "is-another"])
async def test_a_promoted_standby_that_was_behind_costs_no_row_and_no_order(
    worker: str, servers: PostgresPair, pool, start, log
) -> None:
    running = start(pool=pool, log=log)
    early, lost, late = messages("early", 60), messages("lost", 50), messages("late", 40)
    await persisted(log, *early)
    await servers.cut()
    await persisted(log, *lost)
    if worker == "is-another":
        await running.kill()
    await servers.primary.kill()
    await servers.promote()
    if worker == "is-another":
        running = start(pool=pool, member="w2", log=log)
    await persisted(log, *late)
    assert await rows(pool) == expected(early, lost, late)
    assert not running.consumer.status().paused


@pytest.mark.parametrize("worker", ["lives", "is-another"])
async def test_a_reader_that_goes_on_from_a_lost_row_misses_nothing(
    worker: str, servers: PostgresPair, pool, start, log
) -> None:
    running = start(pool=pool, log=log)
    early, lost, late = messages("early", 21), messages("lost", 21), messages("late", 21)
    await persisted(log, *early)
    await servers.cut()
    await pool.execute(REPEATS)
    await persisted(log, *lost)
    places = await read_through(pool)
    if worker == "is-another":
        await running.stop()
    await servers.primary.kill()
    await servers.promote()
    if worker == "is-another":
        start(pool=pool, member="w2", log=log)
    await persisted(log, *late)
    assert await rows_after(pool, places) == expected(lost, late)


async def test_a_reader_of_a_batch_that_was_half_written_misses_nothing(
    servers: PostgresPair, pool, start, transport
) -> None:
    """Its first rows were lost, and nothing of it is acknowledged."""
    start(pool=pool)
    early, late = messages("early", 7), messages("late", 7)
    lost = [message(f"lost-{n:03}", "conv0", "x" * 2**20) for n in range(12)]
    await persisted(transport, *early)
    await servers.cut()
    await pool.execute(REPEATS)
    await pool.execute(HELD_BACK)
    async with using(pool) as holder:
        await holder.execute("SELECT pg_advisory_lock(1)")
        await append(transport, *lost)

        async def is_half_written() -> bool:
            return len((await rows(pool))["conv0"]) > 1

        await eventually(is_half_written)
        places = await read_through(pool)
        await servers.primary.kill()
    await servers.promote()
    await persisted(transport, *late)
    assert await rows_after(pool, places) == expected(lost, late)


async def test_a_primary_that_was_replaced_and_goes_on_taking_writes_is_left(
    servers: PostgresPair, pool, start, log
) -> None:
    """Its cluster manager died, so nobody stops it."""
    start(pool=pool, log=log)
    early, lost, late = messages("early", 60), messages("lost", 50), messages("late", 40)
    await persisted(log, *early)
    await servers.cut()
    await servers.promote()
    await persisted(log, *lost)

    async def is_left() -> bool:
        return bool(await run(servers.standby, "SELECT count(*) = 110 FROM messages"))

    await eventually(is_left)
    await persisted(log, *late)
    assert await rows(pool) == expected(early, lost, late)


async def test_a_host_that_takes_no_writes_is_told_in_words(servers: PostgresPair, pool) -> None:
    await servers.primary.kill()
    with pytest.raises(Outage, match=f":{servers.standby.port}: it is a standby, or read-only"):
        async with using(pool):
            pass


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_failover_as_a_log_gets_its_first_owner_costs_no_row(
    cut: str, servers: PostgresPair, pool, start, log, monkeypatch
) -> None:
    """The standby has no position of the log, or the one with which its owners began."""
    early, lost, late = messages("early", 20), messages("lost", 20), messages("late", 20)
    if cut == "before":
        await servers.cut()
    else:
        cut_after_opens(servers, monkeypatch)
    running = start(pool=pool, log=log)
    await persisted(log, *early, *lost)
    if cut == "after":
        await running.kill()
    await servers.primary.kill()
    await servers.promote()
    if cut == "after":
        start(pool=pool, member="w2", log=log)
    await persisted(log, *late)
    assert await rows(pool) == expected(early, lost, late)


def cut_after_opens(servers: PostgresPair, monkeypatch) -> None:
    """Cut the standby when all positions were opened for the first time, and nothing else done."""
    open_position, opened = Writer.open, asyncio.Barrier(PARTITIONS)
    is_cut = False

    async def open_and_cut(self: Writer, *arguments: Any) -> Opened:
        nonlocal is_cut
        position = await open_position(self, *arguments)
        if not is_cut:
            if await opened.wait() == 0:
                await servers.cut()
            await opened.wait()
            is_cut = True
        return position

    monkeypatch.setattr(Writer, "open", open_and_cut)


async def test_a_restored_backup_is_caught_up_from_the_log(
    servers: PostgresPair, pool, start, transport, tmp_path
) -> None:
    """The base backup is older than most rows, and the server begins with it again."""
    running = start(pool=pool)
    early, lost, late = messages("early", 30), messages("lost", 200), messages("late", 20)
    await persisted(transport, *early)
    await servers.standby.stop()
    await base_backup(servers.primary, tmp_path / "backup")
    await persisted(transport, *lost)
    await running.stop()
    await servers.primary.kill()
    folder = servers.primary.data_dir
    shutil.move(folder, tmp_path / "broken")
    shutil.move(tmp_path / "backup", folder)
    await servers.primary.start()
    running = start(pool=pool, member="w2")
    await persisted(transport, *late)
    assert await rows(pool) == expected(early, lost, late)


async def test_rows_are_put_back_where_nothing_new_comes(
    servers: PostgresPair, pool, start, transport
) -> None:
    start(pool=pool)
    early, lost = messages("early", 20), messages("lost", 20)
    await persisted(transport, *early)
    await servers.cut()
    await persisted(transport, *lost)
    await servers.primary.kill()
    await servers.promote()

    async def all_there() -> bool:
        return await rows(pool) == expected(early, lost)

    await eventually(all_there)


@pytest.mark.parametrize("known", [True, False])
async def test_dead_letters_that_were_lost_are_listed_again(
    servers: PostgresPair, pool, start, transport, known: bool
) -> None:
    """Their records are acknowledged, in the log of the messages and in that of the letters.

    ``known``: The standby has a letter, and so a position.
    """
    start(pool=pool)
    start(DeadLetterIndexer, "i1", pool=pool)
    early, lost = messages("early", 8), messages("lost", 8)

    async def listed(count: int) -> bool:
        letters_left = await lag(transport, Topic.DEAD_LETTERS)
        found = await pool.fetch("SELECT DISTINCT source_offset FROM dead_letters")
        return len(found) == count and not letters_left

    first = [broken(message("bad", "conv0"))] if known else []
    await persisted(transport, *early, *first)
    await eventually(lambda: listed(len(first)))
    await servers.cut()
    await persisted(transport, *lost, broken(message("worse", "conv0")))
    await eventually(lambda: listed(len(first) + 1))
    await servers.primary.kill()
    await servers.promote()
    await eventually(lambda: listed(len(first) + 1))

    async def all_there() -> bool:
        return await rows(pool) == expected(early, lost)

    await eventually(all_there)


async def test_letters_in_hand_are_listed_behind_those_that_were_lost(
    servers: PostgresPair, pool, start, transport
) -> None:
    """The primary dies while letters are inserted; the insert ends on another server."""
    start(DeadLetterIndexer, "i1", pool=pool)

    async def listed(count: int) -> bool:
        return await pool.fetchval("SELECT count(*) FROM dead_letters") == count

    await transport.dead_letter([_letter("first")])
    await eventually(lambda: listed(1))
    await servers.cut()
    await transport.dead_letter([_letter("lost")])
    await eventually(lambda: listed(2))
    holder = await asyncpg.connect(servers.url)
    await holder.execute("BEGIN; LOCK TABLE dead_letters IN EXCLUSIVE MODE")
    await transport.dead_letter([_letter("in hand")])

    async def waits() -> bool:
        return bool(await run(servers.primary, "SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await eventually(waits)
    await servers.primary.kill()
    holder.terminate()
    await servers.promote()
    await eventually(lambda: listed(3))


async def test_a_former_owner_lists_nothing_before_what_its_successor_puts_back(
    database_pool, start, transport
) -> None:
    """Another process took the dead letters while PostgreSQL held a statement up."""
    start(DeadLetterIndexer, "i1")
    for number, name in enumerate(["first", "lost"], 1):
        await transport.dead_letter([_letter(name)])
        await eventually(partial(_are_listed, database_pool, number))
    first = await database_pool.fetchval("SELECT log_offset FROM dead_letters ORDER BY id LIMIT 1")
    async with database_pool.acquire() as after, after.transaction():
        async with database_pool.acquire() as before, before.transaction():
            await before.execute(_LOCK)
            await transport.dead_letter([_letter("in hand")])
            await eventually(partial(_wait, database_pool, 1))
            locking = asyncio.create_task(after.execute(_LOCK))
            await eventually(partial(_wait, database_pool, 2))
            # What a failover to a standby that was behind leaves.
            await before.execute("DELETE FROM dead_letters WHERE log_offset <> $1", first)
            await database_pool.execute(
                "UPDATE log_positions SET through = $1 WHERE partition = -1", first
            )
            start(DeadLetterIndexer, "i2")  # without heartbeats, each takes the other for dead
            await eventually(partial(_wait, database_pool, 3))
        await locking
        # PostgreSQL refused the first owner's insert. Both wait to insert the lost dead letter.
        await eventually(partial(_wait, database_pool, 2))
    await eventually(partial(_are_listed, database_pool, 3))


_LOCK = "LOCK TABLE dead_letters IN EXCLUSIVE MODE"


async def _are_listed(pool: asyncpg.Pool, count: int) -> bool:
    return await pool.fetchval("SELECT count(*) FROM dead_letters") == count


async def _wait(pool: asyncpg.Pool, count: int) -> bool:
    waiting = await pool.fetchval(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dead_letters'::regclass"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return waiting == count


def _letter(name: str) -> DeadLetter:
    return DeadLetter(record(message(name)), Reason.REJECTED, "why", 3, timestamp(0.0))


async def test_rows_that_the_log_holds_no_more_are_counted_and_the_others_come_back(
    servers: PostgresPair, pool, start, transport_settings
) -> None:
    # By number and not by age: Redis trims by age only while its clock goes on.
    brief = {"stream_partitions": PARTITIONS, "stream_retention_records": HELD}
    async with RedisTransport(transport_settings.model_copy(update=brief)) as log:
        running = start(pool=pool, log=log)
        # Redis trims whole nodes of 4096 bytes: each record is in one of its own.
        early, lost, late = (messages(kind, 14, "x" * 5000) for kind in ("early", "lost", "late"))
        partitions = {partition_for(message.conversation_id, PARTITIONS) for message in early}
        async with explained(log, pool):
            await persisted(log, *early)
            await servers.cut()
            cut_at = await pool.fetch("SELECT * FROM log_positions WHERE through > ''")
            await pool.execute(REPEATS)
            await persisted(log, *lost)

            async def trimmed() -> bool:
                held = [await log.read(Topic.MESSAGES, partition) for partition in partitions]
                return all(len(records) == HELD for records in held)

            # A partition is trimmed just after its position is shown.
            await eventually(trimmed)
        for row in cut_at:
            assert not await log.reaches(Topic.MESSAGES, row["partition"], after=row["through"])
        places = await read_through(pool)
        await running.kill()
        await servers.primary.kill()
        await servers.promote()
        running = start(pool=pool, member="w2", log=log)
        async with explained(log, pool):
            await persisted(log, *late)
        assert not running.consumer.status().paused
        rows_lost = running.metrics.of(PositionMetrics).rows_lost
        assert value_of(rows_lost.labels("redis")) == len(partitions)
        there, read = await rows(pool), await rows_after(pool, places)
        came_back = sum(map(len, there.values())) - len(early) - len(late)
        assert came_back == HELD * len(partitions)
        for conversation, kept in expected(early).items():
            last = there[conversation][len(kept) :]
            sent = [pair for part in (lost, late) for pair in expected(part).get(conversation, [])]
            assert last == sent[len(sent) - len(last) :], "what the log held, and what came since"
            assert read[conversation] == last


@asynccontextmanager
async def explained(log: Transport, pool: asyncpg.Pool) -> AsyncIterator[None]:
    """Say in a failure of the block where the positions are, and what the log holds."""
    try:
        yield
    except AssertionError as error:
        for one in await log.progress(Topic.MESSAGES, group=WORKER_GROUP):
            known = await pool.fetchval(
                "SELECT through FROM log_positions WHERE partition = $1", one.partition
            )
            held = [record.offset for record in await log.read(Topic.MESSAGES, one.partition)]
            error.add_note(
                f"partition {one.partition}: PostgreSQL has {known!r}, the log shows {one.floor!r}"
                f" (lag {one.lag}), and holds {len(held)} of {one.appended}: {held}"
            )
        raise


async def test_an_ordinary_restart_writes_nothing_again(start, transport, database_pool) -> None:
    for number in range(3):
        running = start(member=f"w{number}")
        bad = broken(message(f"bad{number}", "conv1"))
        await persisted(transport, *messages(f"m{number}", 30), bad)
        assert (running.count("persisted"), running.count("duplicate")) == (30, 0)
        await (running.stop() if number else running.kill())
    positions = await database_pool.fetch("SELECT * FROM log_positions")
    told = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    progress = {standing.partition: standing for standing in told}
    assert {row["partition"]: row["through"] for row in positions} == {
        partition: standing.floor or "" for partition, standing in progress.items()
    }
    assert await database_pool.fetchval("SELECT max(seq) < 1000 FROM messages"), "none was left out"


async def test_no_position_passes_rows_that_the_promoted_standby_lacks(
    servers: PostgresPair, pool: asyncpg.Pool
) -> None:
    """A batch with a conflict leaves the position, which moves once the dead letter is durable."""
    writer = Writer(pool)
    fence = await owned(writer, "redis", 0, 1, "w")
    await writer.write([placed(message("c1"))], fence)
    await servers.cut()
    before = fence.through
    batch = [placed(message("c2")), placed(message("c1", content="another"))]
    written = await writer.write(batch, fence)
    assert (written.persisted, written.conflicts, fence.through) == ([0], [1], before)
    await servers.primary.kill()
    await servers.promote()

    async def moves() -> bool:
        try:
            await writer.move(fence, batch[-1].offset)
        except Outage:
            return False
        return True

    with pytest.raises(FenceLost):
        await eventually(moves)
    opened = await writer.open("redis", 0, 1, "log")
    assert opened.through == before
