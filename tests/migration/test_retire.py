"""``crossfade migrate retire``: what stands in its way, and what is left after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis

from migration_guide.chain_guard import ChainGuard
from migration_guide.errors import (
    MigrationError,
    NotAStep,
    NotPlanned,
    NotRetired,
    Overtaken,
    StepQueued,
)
from migration_guide.planning import plan, planned
from migration_guide.retirement import Retirement, judge_retirement, opened, retire
from migration_guide.steps import Steps
from otel.metrics import Metrics
from persistence.chain.known_chain import KnownChain
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.fleet.log_choice import FIRST_PAIR, Choice, LogPair
from persistence.fleet.log_identities import known_identities
from persistence.fleet.migration_state import history
from persistence.fleet.retired_logs import retired_logs
from persistence.fleet.used_logs import used_logs
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.persistence.loglib import append, lag, raw
from tests.persistence.samples import PARTITIONS, message
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.phases import CHOICES
from transport.contract import Topic, Transport
from transport.errors import ConfigurationError
from transport.message.partitioner import partition_for
from transport.redis import RedisTransport
from transport.registry import create
from transport.settings import TransportSettings

NEW = Choice("redis@6", None, None, "redis@6")


@pytest.fixture
def settings(redis_settings: TransportSettings) -> TransportSettings:
    return redis_settings.model_copy(update={"stream_partitions": PARTITIONS})


@pytest.fixture
def steps(database_pool, settings) -> Steps:
    return Steps(database_pool, settings)


@pytest.fixture
async def log(settings) -> AsyncIterator[RedisTransport]:
    async with RedisTransport(settings) as log:
        yield log


@pytest.fixture
async def moved(steps, process, settings, database_pool) -> None:
    """A migration from ``redis`` to ``redis@6`` that rests at its end, with one process."""
    async with create("redis@6", settings) as new:
        await append(new, message("new"))
        await met(database_pool, new)
    await steps.machine.adopt(Choice("redis", "redis@6", "async", "redis"), "first")
    await database_pool.execute("UPDATE migration SET phase = 5, target = 5")
    await process("a", None, choice=NEW, logs={})


@pytest.fixture
def worked_off(log, database_pool, database_url) -> Callable[..., object]:
    """Append events to the old log, and have them persisted, acknowledged and indexed."""

    async def work(*events, index: bool = True, log: Transport = log) -> None:
        await append(log, *events)
        stop = asyncio.Event()
        parts = {
            "transport": log,
            "pool": database_pool,
            "settings": PersistenceSettings(database_url=database_url, stream_poll_interval_ms=200),
            "metrics": Metrics(),
            "member": "w1",
        }
        async with asyncio.TaskGroup() as tasks:
            for kind in (Worker, DeadLetterIndexer) if index else (Worker,):
                tasks.create_task(kind(**parts).run(stop))

            async def done() -> bool:
                return not await lag(log) and not (index and await lag(log, Topic.DEAD_LETTERS))

            await eventually(done)
            stop.set()

    return work


@pytest.fixture
def judged(steps, database_pool, log) -> Callable[..., object]:
    async def judge(name: str = "redis", of: Transport | None = log, **more) -> Retirement:
        return await judge_retirement(steps, database_pool, name, of, **more)

    return judge


async def met(pool, log: Transport) -> None:
    """Have the log's name mean this log."""
    await pool.execute(
        "INSERT INTO log_identities (name, identity) VALUES ($1, $2)",
        log.name,
        await log.identity(),
    )


def names(proof: Retirement) -> list[str]:
    return [obstacle.name for obstacle in proof.obstacles]


async def test_a_log_that_nothing_needs_is_removed_and_the_other_stays(
    moved, worked_off, judged, steps, settings, log, database_pool
):
    await met(database_pool, log)
    await worked_off(message("c1"), message("c2"), message("c1"), raw(b"no envelope"))
    read = 0

    def compared(more: int) -> None:
        nonlocal read
        read += more

    proof = await judged(compared=compared)
    assert proof.obstacles == []
    assert (proof.records, proof.letters, proof.pending_letters, read) == (4, 1, 1, 5)
    assert "redis" in await used_logs(database_pool)
    async with Redis(
        host=settings.redis_host, port=settings.redis_port, db=settings.redis_stream_db
    ) as client:

        async def dumps() -> dict[bytes, bytes]:
            return {key: await client.dump(key) for key in sorted(await client.keys())}

        new = {key: dump for key, dump in (await dumps()).items() if b"@6" in key}
        removed = await retire(steps, database_pool, proof, log, who="op", why="done", wait=0)
        assert await dumps() == new
    assert removed == proof.holdings
    assert "redis" not in await used_logs(database_pool)
    (last, *_) = await history(database_pool)
    assert (last.kind, last.who, last.why) == ("retired", "op", "retired redis: done")
    state = (await steps.look()).state
    assert (state.pair, state.phase, state.target) == (LogPair("redis@6", None), 0, 0)
    with pytest.raises(NotAStep, match=r"op's change \(retired redis: done\)"):
        steps.next_step(state, forward=False)
    async with opened("redis", settings) as again:
        assert again is None
    assert not (await judged(of=None)).in_migration
    assert "redis" in await known_identities(database_pool), "the name is not used again"
    with pytest.raises(NotPlanned, match=r"redis was retired by op on .*: done\. .*another label"):
        await planned(await steps.look(), "redis", settings)
    assert await database_pool.fetchval("SELECT count(*) FROM dead_letters WHERE state = 'pending'")


async def test_a_log_on_kafka_is_removed_with_its_groups(
    worked_off, process, both, logs, state_machine, database_pool
):
    """One that a migration led to and was taken back from."""
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0, logs={})
    steps, old = Steps(database_pool, both), logs["kafka"]
    await append(logs["redis"], message("new"))
    await met(database_pool, logs["redis"])
    await append(old, message("c1"))
    proof = await judge_retirement(steps, database_pool, "kafka", old)
    assert names(proof) == ["unread"]
    await worked_off(raw(b"no envelope"), log=old)
    proof = await judge_retirement(steps, database_pool, "kafka", old)
    assert (names(proof), proof.records, proof.letters) == ([], 2, 1)
    removed = await retire(steps, database_pool, proof, old, who="op", why="done", wait=0)
    assert [held.kind for held in removed] == ["topic", "topic", "group", "group"]
    async with opened("kafka", both) as again:
        assert again is None
    assert (await steps.look()).state.pair == LogPair("redis", None)
    assert await lag(logs["redis"]) == 1


async def test_records_that_no_worker_has_acknowledged_are_needed(moved, judged, log):
    await append(log, message("c1"))
    assert names(await judged()) == ["unread"]


async def test_records_that_are_no_row_are_needed(moved, worked_off, judged, database_pool):
    await worked_off(message("c1"), message("c2"))
    await database_pool.execute("DELETE FROM messages WHERE client_message_id = 'c2'")
    proof = await judged()
    assert names(proof) == ["unsettled"]
    assert proof.obstacles[0].reason.startswith("1 of its records")


async def test_letters_that_are_no_row_are_needed_unless_they_are_given_up(
    moved, worked_off, judged, database_pool
):
    await worked_off(raw(b"no envelope"), index=False)
    assert names(await judged()) == ["letters"]
    assert names(await judged(discard_letters=True)) == []
    await worked_off()
    assert names(await judged()) == []
    await database_pool.execute("UPDATE dead_letters SET body = ''")
    assert names(await judged()) == ["letters"], "a row without its bytes"


async def test_a_group_that_is_behind_stands_in_the_way(moved, worked_off, judged, log):
    await worked_off(message("c1"), message("c2"))
    partition = partition_for("conv", PARTITIONS)
    first, last = await log.read(Topic.MESSAGES, partition)
    await log.publish_positions(Topic.MESSAGES, {partition: first.offset}, group="reports")
    proof = await judged()
    assert names(proof) == ["other groups"]
    assert "reports of another program has 1 records" in proof.obstacles[0].reason
    await log.publish_positions(Topic.MESSAGES, {partition: last.offset}, group="reports")
    assert names(await judged()) == []


async def test_a_program_that_reads_it_stands_in_the_way(
    worked_off, process, both, logs, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0, logs={})
    await met(database_pool, logs["redis"])
    kafka, steps = logs["kafka"], Steps(database_pool, both)
    await worked_off(message("c1"), log=kafka)
    assert names(await judge_retirement(steps, database_pool, "kafka", kafka)) == []
    reader = AIOKafkaConsumer(
        both.kafka_topic, bootstrap_servers=both.kafka_bootstrap_servers, group_id="reports"
    )
    async with reader:

        async def is_member() -> bool:
            await reader.getmany(timeout_ms=100)
            return bool(reader.assignment())

        await eventually(is_member)
        proof = await judge_retirement(steps, database_pool, "kafka", kafka)
        assert names(proof) == ["members"]
        assert "group reports has 1 members" in proof.obstacles[0].reason


async def test_a_process_that_still_empties_it_stands_in_the_way(
    moved, worked_off, judged, process
):
    """It found the log orphaned, and may be about to persist what is appended now."""
    await worked_off(message("c1"))
    await process("b", None, choice=NEW, logs={}, owned={"redis": {"0": 3}})
    proof = await judged()
    assert names(proof) == ["readers"]
    assert "processes read what is left in it: b" in proof.obstacles[0].reason
    await process("b", None, choice=NEW, logs={}, owned={"redis": {}})
    assert names(await judged()) == []


@pytest.mark.parametrize(
    ("choice", "silent", "remedy"),
    [
        (Choice("redis@6", "redis", "sync", "redis@6"), 0, "restart them"),
        (Choice("redis@6", None, None, "redis"), 0, "restart them"),
        (Choice("redis", None, None, "redis"), 20, "crossfade migrate forget b"),
    ],
)
async def test_a_process_that_names_it_stands_in_the_way(
    moved, judged, process, choice, silent, remedy
):
    await process("b", None, choice=choice, silent=silent, logs={})
    proof = await judged()
    assert names(proof) == ["processes"]
    assert remedy in proof.obstacles[0].remedy


async def test_the_log_in_use_and_those_of_a_migration_under_way_stay(
    moved, judged, settings, database_pool, log
):
    async with opened("redis@6", settings) as new:
        assert names(await judged("redis@6", new)) == ["processes", "migration", "unread"]
    await database_pool.execute("UPDATE migration SET phase = 4, target = 5")
    proof = await judged()
    assert names(proof) == ["migration"]
    assert "between phases 4 and 5" in proof.obstacles[0].reason
    await database_pool.execute("UPDATE migration SET old_log = 'kafka'")
    assert names(await judged()) == [], "it is in no plan"


async def test_another_name_of_a_log_in_use_is_told(moved, judged, settings, process):
    """A label may lead to the same server."""
    both = settings.with_labels({"eu": settings})
    async with opened("redis.eu@6", both) as same:
        proof = await judged("redis.eu@6", same)
    assert names(proof) == ["identity", "unread"]
    assert proof.obstacles[0].reason == "it is redis@6, which is in use"
    await process("b", None, choice=Choice("redis@7", None, None, "redis@7"), logs={})
    proof = await judged()
    assert names(proof) == ["identity"]
    assert proof.obstacles[0].reason == "no process has said yet which log redis@7 is"


async def test_another_log_of_the_name_stays(moved, judged, log, database_pool):
    """The settings of the command may lead to another installation's server."""
    await met(database_pool, log)
    assert names(await judged()) == []
    await database_pool.execute("UPDATE log_identities SET identity = 'x' WHERE name = 'redis'")
    proof = await judged()
    assert names(proof) == ["identity"]
    assert proof.obstacles[0].reason == "this is another log than the one that redis was"


async def test_it_is_looked_at_again_before_it_is_removed(
    moved, worked_off, judged, steps, settings, log, process, database_pool
):
    await worked_off(message("c1"))
    proof = await judged()
    await append(log, message("c2"))
    with pytest.raises(NotRetired, match="have records that may be neither"):
        await retire(steps, database_pool, proof, log, who="op", why="x")
    await worked_off()
    await process("b", None, choice=CHOICES[0], logs={})
    with pytest.raises(MigrationError, match="in their settings: b"):
        await retire(steps, database_pool, proof, log, who="op", why="x")
    with pytest.raises(NotRetired):
        await steps.machine.retire(proof.epoch, "redis", used=True, who="op", why="x")
    await database_pool.execute("DELETE FROM processes WHERE member = 'b'")
    await database_pool.execute("UPDATE migration SET epoch = epoch + 1")
    with pytest.raises(Overtaken):
        await retire(steps, database_pool, proof, log, who="op", why="x")
    assert "redis" in (await steps.look()).state.pair.names
    assert len(await log.read(Topic.MESSAGES, partition_for("conv", PARTITIONS))) == 2


async def test_a_producer_that_starts_meanwhile_loses_nothing(
    moved, worked_off, judged, steps, log, process, database_pool
):
    """Its first heartbeat was on its way when the retirement was recorded, so it read nothing."""
    await worked_off(message("c1"))
    proof = await judged()
    retiring = asyncio.create_task(
        retire(steps, database_pool, proof, log, who="op", why="x", wait=2)
    )

    async def recorded() -> bool:
        return "redis" in await retired_logs(database_pool)

    await eventually(recorded)
    await process("late", None, choice=CHOICES[0], logs={})
    guard = ChainGuard(steps.machine, KnownChain(database_pool), CHOICES[0], who="late")
    await guard.compare(None)
    await append(log, message("c2"))
    with pytest.raises(NotRetired, match=r"settings: late .* nothing was removed"):
        await retiring
    assert await lag(log) == 1
    await database_pool.execute("DELETE FROM processes WHERE member = 'late'")
    await worked_off()
    proof = await judged()
    assert names(proof) == [], "it is taken up again"
    assert await retire(steps, database_pool, proof, log, who="op", why="x", wait=0)


async def test_a_log_whose_retirement_was_lost_is_not_removed(
    moved, worked_off, judged, steps, log, database_pool
):
    """PostgreSQL is set back by hand, as a failover to a standby that was behind does."""
    await worked_off(message("c1"))
    proof = await judged()
    retiring = asyncio.create_task(
        retire(steps, database_pool, proof, log, who="op", why="x", wait=2)
    )

    async def is_lost() -> bool:
        return str(await database_pool.execute("DELETE FROM retired_logs")) == "DELETE 1"

    await eventually(is_lost)
    with pytest.raises(NotRetired, match=r"lost the record .* Nothing was removed"):
        await retiring
    assert await log.read(Topic.MESSAGES, partition_for("conv", PARTITIONS))
    assert await retire(steps, database_pool, await judged(), log, who="op", why="x", wait=0)


async def test_the_name_of_a_log_that_was_never_used_stays_free(
    both, process, state_machine, database_pool
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0, logs={"redis": "the log redis", "kafka": None})
    steps = Steps(database_pool, both)

    async def retired() -> bool:
        proof = await judge_retirement(steps, database_pool, "kafka", None)
        assert (names(proof), proof.exists) == ([], False)
        await retire(steps, database_pool, proof, None, who="op", why="x", wait=0)
        assert (await steps.look()).state.pair == LogPair("redis", None)
        return "kafka" in await retired_logs(database_pool)

    assert not await retired()
    made = await planned(await steps.look(), "kafka", both)
    await plan(steps, made, who="op", why="x")
    await database_pool.execute("INSERT INTO log_identities VALUES ('kafka', 'gone')")
    assert await retired()


async def test_a_plan_that_was_judged_before_does_not_lead_to_a_retired_log(
    both, process, state_machine, database_pool
):
    """The log is in no migration, so that one stays, but for its epoch."""
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0, logs={})
    steps = Steps(database_pool, both)
    made = await planned(await steps.look(), "redis@6", both)
    after = await steps.machine.retire(made.epoch, "redis@6", used=True, who="op", why="x")
    assert (after.epoch, after.pair, after.phase) == (made.epoch + 1, FIRST_PAIR, 0)
    with pytest.raises(Overtaken):
        await plan(steps, made, who="op", why="x")
    with pytest.raises(NotPlanned, match="redis@6 was retired"):
        await steps.machine.plan(after.epoch, "redis@6", who="op", why="x")
    await steps.machine.queue(after.epoch, 1, who="op", why="x", seconds=60, red=[])
    assert names(await judge_retirement(steps, database_pool, "redis@7", None)) == ["migration"]
    with pytest.raises(StepQueued):
        await steps.machine.retire(after.epoch + 1, "redis@7", used=True, who="op", why="x")


async def test_a_log_within_a_process_is_none_to_retire(settings):
    with pytest.raises(ConfigurationError, match="within one process"):
        async with opened("memory", settings):
            pass


async def test_it_is_typed_tried_and_done_once(
    moved, worked_off, log, settings, database_pool, database_url, tmp_path
):
    await worked_off(message("c1"))

    async def crossfade(*arguments: str) -> tuple[int, str]:
        await database_pool.execute("UPDATE processes SET seen_at = now()")
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_HOST": settings.redis_host,
            "REDIS_PORT": str(settings.redis_port),
            "REDIS_STREAM_DB": str(settings.redis_stream_db),
            "STREAM_PARTITIONS": str(PARTITIONS),
            "TRANSPORT": "redis@6",
        }
        ran = await Crossfade.fork("migrate", *arguments, cwd=tmp_path, **environment)
        return await ran.ends(), ran.text

    status, text = await crossfade("retire", "redis@6", "--why", "x", "--yes")
    assert status == 1
    assert "refused: migration: it is the log that is written and read" in text
    status, text = await crossfade("retire", "redis", "--why", "x", "--dry-run")
    assert status == 0, text
    assert "1 record and 0 dead letters compared with PostgreSQL" in text
    assert "would be removed" in text
    assert await log.read(Topic.MESSAGES, partition_for("conv", PARTITIONS)), "it was a dry run"
    status, text = await crossfade("retire", "redis", "--why", "x", "--yes", "--json")
    told = json.loads(text)
    assert (status, told["retired"], told["obstacles"]) == (0, True, [])
    assert {held["kind"] for held in told["holdings"]} >= {"stream", "hash", "string", "group"}
    status, text = await crossfade("retire", "redis", "--why", "x", "--yes")
    assert (status, text.strip()) == (0, "redis: nothing is there")
    assert [event.kind for event in await history(database_pool)].count("retired") == 1
    status, text = await crossfade("rollback", "--why", "x", "--yes")
    assert status == 1
    assert "retired redis: x" in text
    status, text = await crossfade("backfill", "--into", "redis")
    assert status == 2
    assert "redis was retired by" in text


async def test_a_log_that_was_never_made_is_retired_by_name(
    moved, settings, database_pool, database_url, tmp_path
):
    """The dry run says that nothing would be removed."""

    async def said(*options: str) -> str:
        await database_pool.execute("UPDATE processes SET seen_at = now()")
        ran = await Crossfade.fork(
            "migrate", "retire", "redis", "--why", "x", *options,
            cwd=tmp_path, DATABASE_URL=database_url, REDIS_HOST=settings.redis_host,
            REDIS_PORT=str(settings.redis_port), REDIS_STREAM_DB=str(settings.redis_stream_db),
            STREAM_PARTITIONS=str(PARTITIONS), TRANSPORT="redis@6",
        )  # fmt: skip
        assert await ran.ends() == 0, ran.text
        assert ran.lines[-2] == "redis: nothing is there"
        return ran.lines[-1]

    await database_pool.execute("INSERT INTO log_identities VALUES ('redis', 'gone')")
    assert await said("--dry-run") == "would be retired, and nothing removed"
    await database_pool.execute("DELETE FROM log_identities WHERE name = 'redis'")
    free = "taken out of the migration; it was never used, so its name stays free"
    assert await said("--dry-run") == f"would be {free}"
    assert await said("--yes") == f"redis: {free}"
