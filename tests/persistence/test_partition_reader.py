"""The worker of the messages: PostgreSQL's position alone decides what is read."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from functools import partial

import pytest

from otel.metrics import Metrics
from persistence.chain.known_chain import KnownChain
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.errors import FenceLost
from persistence.ownership.fences import PartitionFence, take
from persistence.settings import PersistenceSettings
from persistence.worker.log_bounds import LogBounds
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.partition_reader import PartitionReader
from persistence.worker.position_metrics import PositionMetrics
from persistence.worker.position_publisher import PositionPublisher
from persistence.worker.worker import Worker
from persistence.worker.worker_context import worker_context
from tests.persistence.loglib import append, broken
from tests.persistence.samples import PARTITIONS, message
from tests.support.kafka import fresh_settings
from tests.support.metric_values import value_of
from transport.contract import WORKER_GROUP, Topic
from transport.errors import TransportUnavailable
from transport.features.forwarding import Forwarding
from transport.kafka import KafkaTransport
from transport.memory import MemoryTransport
from transport.memory.partition import MemoryPartition
from transport.redis import RedisTransport
from transport.settings import TransportSettings

CONVERSATIONS = [f"conv{number}" for number in range(8)]


@pytest.fixture
async def on_kafka(kafka_node):
    settings = fresh_settings(kafka_node.bootstrap)
    async with KafkaTransport(
        settings.model_copy(update={"stream_partitions": PARTITIONS})
    ) as opened:
        yield opened


@pytest.fixture(params=["memory", "redis", "kafka"])
def log(request, other, transport):
    """An empty log of four partitions."""
    if request.param == "kafka":
        return request.getfixturevalue("on_kafka")
    return other if request.param == "memory" else transport


@pytest.fixture
def work(start, log):
    """Start a worker of the log, which checks idle partitions ten times a second."""

    def begin(member: str = "w1", *, of=None, **settings):
        return start(Worker, member, log=of or log, **{"stream_poll_interval_ms": 100, **settings})

    return begin


class Sender:
    """Appends numbered messages to conversations, in order."""

    def __init__(self, log) -> None:
        self.log = log
        self.sent: dict[str, list[str]] = defaultdict(list)

    async def send(self, count: int) -> None:
        """Append ``count`` messages to each conversation."""
        for number in range(count):
            events = []
            for conversation in CONVERSATIONS:
                content = str(len(self.sent[conversation]))
                self.sent[conversation].append(content)
                events.append(message(f"{conversation}-{content}", conversation, content))
            await append(self.log, *events)
            if number % 20 == 19:
                await asyncio.sleep(0)

    async def keep_sending(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.send(1)
            await asyncio.sleep(0.005)  # the load's rate


async def stored(pool) -> dict[str, list[str]]:
    """Return the contents of each conversation in the order of their rows."""
    found = defaultdict(list)
    for row in await pool.fetch("SELECT conversation_id, content FROM messages ORDER BY seq"):
        found[row["conversation_id"]].append(row["content"])
    return found


@pytest.fixture
def sender(log) -> Sender:
    return Sender(log)


@pytest.fixture
def all_stored(sender, database_pool, eventually):
    """Wait until each message is a row, once and in the order of its conversation."""

    async def complete() -> bool:
        rows = sum(map(len, sender.sent.values()))
        return await database_pool.fetchval("SELECT count(*) FROM messages") >= rows

    async def wait() -> None:
        await eventually(complete)
        assert await stored(database_pool) == sender.sent

    return wait


async def positions(pool) -> dict[int, str]:
    rows = await pool.fetch("SELECT partition, through FROM log_positions WHERE partition >= 0")
    assert len({row["partition"] for row in rows}) == len(rows)
    return {row["partition"]: row["through"] for row in rows}


async def set_back(pool) -> int:
    """Do what a standby that was behind has done: half of the rows and the position are gone.

    Returns:
        The number of rows that are gone.
    """
    gone = 0
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetch("SELECT FROM log_positions FOR UPDATE")
        for partition in range(PARTITIONS):
            rows = await connection.fetch(
                "SELECT seq, log_offset FROM messages WHERE partition = $1 ORDER BY seq", partition
            )
            if len(rows) < 2:
                continue
            kept = rows[len(rows) // 2]
            gone += len(rows) - len(rows) // 2 - 1
            await connection.execute(
                "DELETE FROM messages WHERE partition = $1 AND seq > $2", partition, kept["seq"]
            )
            await connection.execute(
                "UPDATE log_positions SET through = $2 WHERE partition = $1",
                partition,
                kept["log_offset"],
            )
    return gone


async def test_each_message_is_a_row_once_and_in_order_over_stops_and_kills(
    work, sender, all_stored, eventually, database_pool
):
    done = asyncio.Event()
    sending = asyncio.create_task(sender.keep_sending(done))
    for turn in range(6):
        running = work(f"w{turn}")
        before = await database_pool.fetchval("SELECT count(*) FROM messages")

        async def has_more(before=before) -> bool:
            return await database_pool.fetchval("SELECT count(*) FROM messages") > before + 40

        await eventually(has_more)
        await (running.kill() if turn % 2 else running.stop())
    done.set()
    await sending
    work("last")
    await all_stored()


async def test_the_log_shows_the_position_and_a_stop_shows_the_last_one(
    work, sender, all_stored, eventually, log
):
    running = work()
    await sender.send(5)
    await all_stored()

    async def shown() -> bool:
        return all(p.lag == 0 for p in await log.progress(Topic.MESSAGES, group=WORKER_GROUP))

    await eventually(shown)
    await sender.send(1)
    await all_stored()
    await running.stop()
    assert await shown()


class Shown(Forwarding):
    """A log that keeps the positions that were shown in it."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.shown: list[tuple[int, str]] = []

    async def publish_positions(self, topic, positions, *, group) -> None:
        self.shown.extend(positions.items())
        await super().publish_positions(topic, positions, group=group)


async def test_a_process_that_gave_a_partition_away_shows_its_old_position_no_more(
    work, transport, alive, database_pool, eventually, monkeypatch
):
    monkeypatch.setattr("persistence.worker.position_publisher._AGAIN_SECONDS", 0.2)
    shown, sender = Shown(transport), Sender(transport)
    await alive("w1")
    work("w1", of=shown)
    await sender.send(5)
    await eventually(lambda: has_rows(database_pool, 40))
    await alive("w2")
    second = work("w2", of=shown)
    await eventually(lambda: len(second.consumer.status().partitions) == PARTITIONS // 2)

    async def are_shown_again(times: int = 3) -> None:
        begin = len(shown.shown)
        await eventually(lambda: len(shown.shown) >= begin + times * PARTITIONS)

    await are_shown_again()
    begin = len(shown.shown)
    await sender.send(5)
    await eventually(lambda: has_rows(database_pool, 80))
    await are_shown_again()
    for partition in range(PARTITIONS):
        at = [
            transport.sort_key(through)
            for number, through in shown.shown[begin:]
            if number == partition
        ]
        assert at == sorted(at)


async def test_rows_that_postgresql_lost_while_idle_come_back_in_order(
    work, sender, all_stored, database_pool
):
    work()
    await sender.send(20)
    await all_stored()
    last = await database_pool.fetchval("SELECT max(seq) FROM messages")
    assert await set_back(database_pool) > 50
    await all_stored()
    rows = await database_pool.fetch("SELECT seq FROM messages ORDER BY seq DESC LIMIT 1")
    assert rows[0]["seq"] > last + 10**8  # a reader of rows finds those that come back


async def test_rows_that_postgresql_lost_under_load_come_back_in_order(
    work, sender, all_stored, database_pool, eventually
):
    work()
    done = asyncio.Event()
    sending = asyncio.create_task(sender.keep_sending(done))
    for _ in range(5):
        before = await database_pool.fetchval("SELECT count(*) FROM messages")

        async def has_more(before=before) -> bool:
            return await database_pool.fetchval("SELECT count(*) FROM messages") > before + 40

        await eventually(has_more)
        assert await set_back(database_pool)
    done.set()
    await sending
    await all_stored()


async def conflicts_and_poison(log) -> None:
    """Append messages, three of which become dead letters, in one conversation."""
    await append(
        log,
        message("a", content="a"),
        message("a", content="another body"),
        message("b", content="b"),
        broken(message("c", content="c")),
        message("d", content="d"),
        message("b", content="a third body"),
        message("e", content="e"),
    )


async def dead_letters(pool) -> int:
    return await pool.fetchval("SELECT count(*) FROM dead_letters")


async def contents(pool) -> list[str]:
    return (await stored(pool))["conv"]


async def test_records_that_can_not_be_rows_are_dead_letters_and_hold_up_nothing(
    work, start, log, database_pool, eventually
):
    start(DeadLetterIndexer, "i1", log=log)
    work()
    await conflicts_and_poison(log)

    async def are_stored() -> bool:
        return await contents(database_pool) == ["a", "b", "d", "e"]

    await eventually(are_stored)
    await eventually(lambda: has_letters(database_pool, 3))


async def has_letters(pool, count: int) -> bool:
    return await dead_letters(pool) == count


class NoDeadLetters(Forwarding):
    """A log whose dead letters are not appended, until ``works`` is set."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.works = asyncio.Event()
        self.refused = 0

    async def dead_letter(self, letters) -> None:
        if not self.works.is_set():
            self.refused += 1
            raise TransportUnavailable("no dead letters now")
        await super().dead_letter(letters)


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_no_dead_letter_is_lost_by_a_kill_before_it_is_durable(
    work, start, log, database_pool, eventually, batch
):
    """The position must not pass a record before its dead letter is in the log."""
    refusing = NoDeadLetters(log)
    killed = work("w1", of=refusing, stream_batch_size=batch)
    await conflicts_and_poison(log)
    await eventually(lambda: refusing.refused)
    await killed.kill()
    start(DeadLetterIndexer, "i1", log=log)
    work("w2", stream_batch_size=batch)

    async def are_stored() -> bool:
        return await contents(database_pool) == ["a", "b", "d", "e"]

    await eventually(are_stored)
    await eventually(lambda: has_letters(database_pool, 3))


async def test_a_position_of_another_log_begins_before_the_first_record(
    work, sender, all_stored, database_pool, log
):
    """The address led to another log for a while; its offsets were higher."""
    await database_pool.execute(
        "INSERT INTO log_positions (transport, partition, epoch, through, log)"
        " SELECT $1, n, 0, '9999999999999', 'another' FROM generate_series(0, 3) AS n",
        log.name,
    )
    await sender.send(3)
    running = work()
    await all_stored()
    found = await database_pool.fetch("SELECT DISTINCT log FROM log_positions")
    assert [row["log"] for row in found] == [await log.identity()]
    assert value_of(running.metrics.of(PositionMetrics).rows_lost.labels(log.name)) == 0


@pytest.fixture
async def memory_log():
    settings = TransportSettings(transport="memory", stream_partitions=PARTITIONS)
    async with MemoryTransport.from_settings(settings) as opened:
        yield opened


def in_memory(log: MemoryTransport) -> list[MemoryPartition]:
    """Return the partitions of the messages, to take records away."""
    return log._log.topics[Topic.MESSAGES]  # noqa: SLF001


async def test_a_log_that_becomes_another_one_while_idle_is_read_from_its_start(
    work, memory_log, database_pool, eventually
):
    sender = Sender(memory_log)
    work(of=memory_log)
    await sender.send(5)
    await eventually(lambda: has_rows(database_pool, 40))
    await memory_log.remove()
    await Sender(memory_log).send(1)  # repeats, at offsets that were rows of the other log
    fresh = [message(f"new-{number}", "conv0", f"new-{number}") for number in range(3)]
    await append(memory_log, *fresh)
    await eventually(lambda: has_rows(database_pool, 43))
    assert (await stored(database_pool))["conv0"][-3:] == ["new-0", "new-1", "new-2"]


async def has_rows(pool, count: int) -> bool:
    return await pool.fetchval("SELECT count(*) FROM messages") == count


@pytest.mark.parametrize("kept", [2, 0])
async def test_a_log_that_lost_its_end_is_read_from_its_last_record(
    work, memory_log, database_pool, eventually, kept
):
    """What it appends from then on has offsets that were already rows."""
    sender = Sender(memory_log)
    work(of=memory_log)
    await sender.send(5)
    await eventually(lambda: has_rows(database_pool, 40))
    for partition in in_memory(memory_log):
        del partition.records[kept:]

    async def moved_back() -> bool:
        known = (await positions(database_pool)).values()
        return max(len(through) and int(through) + 1 for through in known) <= kept

    await eventually(moved_back)
    await append(memory_log, *[message(f"new-{n}", "conv0", f"new-{n}") for n in range(3)])
    await eventually(lambda: has_rows(database_pool, 43))
    assert (await stored(database_pool))["conv0"][-3:] == ["new-0", "new-1", "new-2"]


async def test_records_that_left_the_log_without_a_row_are_counted_and_passed(
    work, memory_log, database_pool, eventually
):
    sender = Sender(memory_log)
    first = work(of=memory_log)
    await sender.send(5)
    await eventually(lambda: has_rows(database_pool, 40))
    await first.stop()
    await sender.send(5)
    for partition in in_memory(memory_log):
        partition.drop(partition.end - 1)
    held = sum(bool(p.records) for p in in_memory(memory_log))
    second = work("w2", of=memory_log)
    await eventually(lambda: has_rows(database_pool, 40 + held))
    lost = second.metrics.of(PositionMetrics).rows_lost.labels("memory")
    assert value_of(lost) == held


async def test_a_log_that_was_trimmed_before_its_first_worker_has_lost_nothing(
    work, memory_log, database_pool, eventually
):
    await Sender(memory_log).send(5)
    partitions = [p for p in in_memory(memory_log) if p.records]
    for partition in partitions:
        partition.drop(partition.end - 1)
    for member in ("w1", "w2"):
        running = work(member, of=memory_log)
        await eventually(lambda: has_rows(database_pool, len(partitions)))
        await running.stop()
        lost = running.metrics.of(PositionMetrics).rows_lost.labels("memory")
        assert value_of(lost) == 0


async def test_outages_of_the_database_are_waited_out(
    work, sender, all_stored, database_pool, eventually
):
    running = work()
    await sender.send(5)
    await all_stored()
    await database_pool.execute("ALTER TABLE messages RENAME TO away")
    await sender.send(5)
    await eventually(
        lambda: "postgresql" in [p.dependency for p in running.consumer.status().paused]
    )
    await database_pool.execute("ALTER TABLE away RENAME TO messages")
    await all_stored()


async def test_outages_of_the_log_are_waited_out(start, new_redis, database_pool, eventually):
    server = await new_redis()
    settings = TransportSettings(
        redis_port=server.port, stream_partitions=PARTITIONS, redis_timeout_ms=500
    )
    async with RedisTransport(settings) as log:
        sender = Sender(log)
        running = start(Worker, "w1", log=log, stream_poll_interval_ms=100)
        await sender.send(5)
        await eventually(lambda: has_rows(database_pool, 40))
        await server.kill()
        await eventually(
            lambda: "redis" in [p.dependency for p in running.consumer.status().paused]
        )
        await server.start()
        await sender.send(5)
        await eventually(lambda: has_rows(database_pool, 80))
        assert await stored(database_pool) == sender.sent


class Suspending(Forwarding):
    """A log of a process that is suspended at times, with records in its hands."""

    def __init__(self, inner, chance: random.Random) -> None:
        super().__init__(inner)
        self._chance = chance
        self.suspended = 0
        self.suspends = True

    async def read(self, topic, partition, **more):
        records = await super().read(topic, partition, **more)
        if records and self.suspends and self._chance.random() < 0.3:
            self.suspended += 1
            await asyncio.sleep(self._chance.uniform(0.05, 0.8))  # the fault's duration
        return records


class Process:
    """A process that reads the partitions that it is given, however briefly."""

    def __init__(self, log, pool, url: str, member: str, batch: int) -> None:
        self.log = Suspending(log, random.Random(member))
        self.member = member
        metrics = Metrics()
        settings = PersistenceSettings(
            database_url=url, stream_poll_interval_ms=100, stream_batch_size=batch
        )
        self._context = worker_context(self.log, pool, settings, metrics, member)
        self._bounds = LogBounds(self.log, Topic.MESSAGES, metrics)
        self._publisher = PositionPublisher(self.log)
        self.fences_lost = 0

    async def read(self, partition: int, epoch: int) -> None:
        """Read a partition until another process is found to own it."""
        leave = asyncio.Event()
        position = PartitionPosition(
            partition,
            epoch,
            self._context,
            bounds=self._bounds,
            publisher=self._publisher,
            leave=leave,
        )
        reader = PartitionReader(position, self._context, leave)
        try:
            await reader.run()
        except FenceLost:
            self.fences_lost += 1


@pytest.mark.parametrize("batch", [3, 100])
async def test_every_partition_changes_its_owner_ten_times_a_second_under_load(
    log, sender, all_stored, database_pool, database_url, batch
):
    """No owner is told: it finds out by its next statement, perhaps with records in its hands."""
    await KnownChain(database_pool).begin(log.name)
    processes = [Process(log, database_pool, database_url, f"p{n}", batch) for n in range(3)]
    done = asyncio.Event()
    sending = asyncio.create_task(sender.keep_sending(done))
    fences: dict[int, PartitionFence] = {}
    async with AsyncExitStack() as stack:
        tasks = set[asyncio.Task[None]]()
        stack.push_async_callback(partial(ended, tasks))
        for turn in range(40):
            for partition in range(PARTITIONS):
                owner = processes[(turn + partition) % 3]
                async with database_pool.acquire() as connection:
                    epoch = await take(
                        connection,
                        log.name,
                        partition,
                        owner.member,
                        seen=fences.get(partition),
                    )
                assert epoch is not None
                fences[partition] = PartitionFence(epoch, owner.member)
                tasks.add(asyncio.create_task(owner.read(partition, epoch)))
            await asyncio.sleep(0.1)  # the interval of the takeovers
        done.set()
        await sending
        for process in processes:
            process.log.suspends = False
        await all_stored()
        for task in tasks:
            if task.done():
                task.result()
    assert all(fence.epoch == 40 for fence in fences.values())
    assert sum(process.fences_lost for process in processes) > 20
    assert sum(process.log.suspended for process in processes) > 20


async def ended(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
