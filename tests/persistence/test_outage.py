"""An outage is not a poison message: pause, say so, lose nothing, go on at once (promise 6)."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from persistence import migrate
from persistence.database.pool import connect
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.metrics import PersistenceMetrics
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.loglib import append, contents, lag, letters
from tests.persistence.samples import PARTITIONS, message
from tests.support.metric_values import value_of
from transport.contract import Topic
from transport.errors import AppendUnknown, TransportUnavailable, Unwritable
from transport.redis import RedisTransport
from transport.settings import TransportSettings


class Faulty:
    """The real log, but ``dead_letter`` fails: not appended at first, then appended unanswered."""

    def __init__(self, inner) -> None:
        self._inner = inner
        self.refuses = True
        self.refused = 0
        self.unanswered = 1

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def dead_letter(self, letters) -> None:
        if self.refuses:
            self.refused += 1
            raise TransportUnavailable("full")
        await self._inner.dead_letter(letters)
        if self.unanswered:
            self.unanswered -= 1
            raise AppendUnknown("no answer")


@pytest.fixture
async def own_postgres(new_postgres):
    """A server of the test's own, migrated, with a pool whose statements give up after 1 s."""
    server = await new_postgres()
    url = await server.create_database("crossfade")
    await migrate.upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url, database_timeout_seconds=1))
    yield server, pool
    pool.terminate()


def waits_for(worker) -> list[str]:
    return [paused.dependency for paused in worker.consumer.status().paused]


async def test_postgresql_stopped_under_load_and_started_again(
    start, transport, own_postgres, eventually
):
    server, pool = own_postgres
    worker = start(pool=pool)
    await append(transport, *(message(f"a{i}", content=f"{i}") for i in range(100)))
    await eventually(lambda: worker.count("persisted") == 100)
    await server.stop()
    await append(transport, *(message(f"b{i}", f"conv{i % 9}") for i in range(100)))
    await eventually(lambda: waits_for(worker) == ["postgresql"])
    [paused] = worker.consumer.status().paused
    assert paused.since.endswith("Z")
    assert "PostgreSQL" in paused.error
    assert value_of(worker.metrics.of(PersistenceMetrics).paused.labels("postgresql")) == 1
    await server.start()
    await eventually(lambda: worker.count("persisted") == 200)
    assert waits_for(worker) == []
    assert value_of(worker.metrics.of(PersistenceMetrics).paused.labels("postgresql")) == 0
    await eventually(lambda: _empty(transport))
    assert await letters(transport) == []
    assert await contents(pool) == [f"{i}" for i in range(100)]


async def test_a_log_that_is_full_when_it_is_back_is_drained(
    start, new_redis, database_pool, eventually
):
    """Only workers make room in it: they must not wait until it takes appends."""
    server = await new_redis()
    settings = TransportSettings(
        redis_port=server.port, stream_partitions=PARTITIONS, redis_timeout_ms=500
    )
    async with RedisTransport(settings) as full, Redis(port=server.port) as client:
        worker = start(log=full, stream_batch_size=1)
        async with database_pool.acquire() as holder, holder.transaction():
            await holder.execute("LOCK TABLE messages IN EXCLUSIVE MODE")
            await append(full, *(message(f"a{i}", f"conv{i % 9}") for i in range(20)))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: holder.fetchval(waiting))
            await client.config_set("maxmemory", 1)
            await server.suspend()
        await eventually(lambda: waits_for(worker) == ["redis"])
        await server.resume()
        await eventually(lambda: _empty(full))
        assert worker.count("persisted") == 20
        with pytest.raises(Unwritable, match="let workers drain the log"):
            await full.ping()
        await eventually(lambda: waits_for(worker) == [])


async def test_a_postgresql_that_hangs_is_an_outage_too(start, transport, own_postgres, eventually):
    server, pool = own_postgres
    worker = start(pool=pool)
    await eventually(lambda: len(worker.consumer.status().partitions) == PARTITIONS)
    await append(transport, message("first"))
    await eventually(lambda: worker.count("persisted") == 1)
    await server.suspend()
    await append(transport, *(message(f"c{i}", content=f"{i}") for i in range(50)))
    await eventually(lambda: waits_for(worker) == ["postgresql"])
    await server.resume()
    await eventually(lambda: _empty(transport))
    # The statement that was under way may have committed, with its position: nobody counts it.
    assert worker.count("persisted") in (1, 51)
    assert worker.count("duplicate") == 0
    assert await contents(pool) == ["hello", *(f"{i}" for i in range(50))]
    assert await letters(transport) == []


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("ALTER TABLE messages RENAME TO gone", "ALTER TABLE gone RENAME TO messages"),
        (
            "ALTER TABLE messages RENAME content TO gone",
            "ALTER TABLE messages RENAME gone TO content",
        ),
        ("ALTER TABLE log_positions RENAME TO gone", "ALTER TABLE gone RENAME TO log_positions"),
    ],
    ids=["no table", "no column", "no positions"],
)
async def test_a_schema_that_is_not_there_yet_is_waited_for(
    start, transport, database_pool, eventually, fault, remedy
):
    worker = start()
    await eventually(lambda: len(worker.consumer.status().partitions) == PARTITIONS)
    await database_pool.execute(fault)
    await append(transport, *(message(f"c{i}") for i in range(5)))
    await eventually(lambda: waits_for(worker) == ["postgresql"])
    assert "run `crossfade db upgrade`" in worker.consumer.status().paused[0].error
    assert worker.count("error") >= 1
    await database_pool.execute(remedy)
    await eventually(lambda: _empty(transport))
    assert len(await contents(database_pool)) == 5
    assert await letters(transport) == []


async def test_redis_killed_and_started_again(start, new_redis, database_pool, eventually):
    server = await new_redis()
    settings = TransportSettings(
        redis_host=server.host, redis_port=server.port, stream_partitions=4
    )
    async with RedisTransport(settings) as log:
        worker = start(log=log)
        await append(log, *(message(f"a{i}", content=f"{i}") for i in range(100)))
        await eventually(lambda: worker.count("persisted") == 100)
        await server.kill()
        await eventually(lambda: "redis" in waits_for(worker))
        await server.start()
        await eventually(lambda: waits_for(worker) == [])
        await append(log, *(message(f"b{i}", content=f"b{i}") for i in range(100)))
        await eventually(lambda: worker.count("persisted") == 200)
        await worker.stop()
    assert await contents(database_pool) == [
        *(f"{i}" for i in range(100)),
        *(f"b{i}" for i in range(100)),
    ]


async def test_a_record_is_not_passed_before_its_dead_letter_is_appended(
    start, transport, database_pool, eventually
):
    log = Faulty(transport)
    worker = start(log=log)
    await append(transport, message("c", content="first"), message("c", content="second"))
    await eventually(lambda: log.refused >= 3)
    assert worker.count("dead_lettered") == 0
    assert await lag(transport) == 2
    log.refuses = False
    await eventually(lambda: _empty(transport))
    assert worker.count("dead_lettered") == 1
    # Appended again, as the first answer was lost; whatever the log makes of that, one row.
    assert len({letter.record.offset for letter in await letters(transport)}) == 1
    start(DeadLetterIndexer, member="i1")
    indexed = "SELECT count(*) FROM dead_letters"
    await eventually(lambda: database_pool.fetchval(indexed))
    await eventually(lambda: _indexed(transport))
    assert await database_pool.fetchval(indexed) == 1


async def test_an_error_without_a_rule_pauses_its_partition_alone_and_dead_letters_nothing(
    start, transport, database_pool, eventually, monkeypatch
):
    write, write_together, puzzle = Writer.write, Writer.write_together, [True]
    write_unless_locked = Writer.write_unless_locked

    def look(batch) -> None:
        if puzzle and any(placed.event.content == "puzzle" for placed in batch):
            raise LookupError("a fault of ours")

    async def puzzled(self, batch, fence):
        look(batch)
        return await write(self, batch, fence)

    async def puzzled_unless_locked(self, batch, fence):
        look(batch)
        return await write_unless_locked(self, batch, fence)

    async def puzzled_together(self, batches, connection):
        for batch in batches:
            look(batch.records)
        return await write_together(self, batches, connection)

    monkeypatch.setattr(Writer, "write", puzzled)
    monkeypatch.setattr(Writer, "write_unless_locked", puzzled_unless_locked)
    monkeypatch.setattr(Writer, "write_together", puzzled_together)
    worker = start()
    await append(transport, message("c1", "conv1", "puzzle"), message("c2", "conv2", "fine"))
    await eventually(lambda: worker.consumer.status().paused)
    [paused] = worker.consumer.status().paused
    assert paused.dependency.startswith("partition ")
    await eventually(lambda: worker.count("persisted") == 1)  # the other partition's
    puzzle.clear()
    await eventually(lambda: worker.count("persisted") == 2)
    await eventually(lambda: _empty(transport))  # it is counted before it is acknowledged
    assert await letters(transport) == []


async def test_a_batch_that_is_too_slow_as_a_whole_is_halved(
    start, transport, database_pool, database_url, eventually
):
    """Each row takes a tenth of a second, and a statement may take one."""
    await database_pool.execute(
        """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(0.1);
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()
        """
    )
    await append(transport, *(message(f"c{n}", content=f"{n}") for n in range(20)))
    settings = PersistenceSettings(database_url=database_url, database_timeout_seconds=1)
    pool = await connect(settings)
    try:
        worker = start(pool=pool)
        await eventually(lambda: worker.count("persisted") == 20)
        assert await contents(database_pool) == [f"{n}" for n in range(20)]
        assert worker.count("dead_lettered") == 0
        await worker.stop()
    finally:
        pool.terminate()


async def test_a_worker_stops_at_once_during_an_outage_and_acknowledges_nothing(
    start, transport, database_pool, eventually
):
    await database_pool.execute("ALTER TABLE messages RENAME TO gone")
    await append(transport, message())
    worker = start(stream_poll_interval_ms=60_000)
    await eventually(lambda: waits_for(worker))
    await worker.stop()
    assert await lag(transport) == 1
    await database_pool.execute("ALTER TABLE gone RENAME TO messages")
    again = start(member="w2")
    await eventually(lambda: again.count("persisted") == 1)


async def _empty(transport) -> bool:
    return await lag(transport) == 0


async def _indexed(transport) -> bool:
    return await lag(transport, Topic.DEAD_LETTERS) == 0
