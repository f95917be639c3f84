"""A command's settings lead to another server than those of the processes: nothing passes there."""

from __future__ import annotations

import pytest

from migration_guide.gates.result import Scene
from migration_guide.meant_log import WrongLogError
from migration_guide.steps import Steps
from persistence.chain.known_chain import KnownChain
from persistence.fleet.log_choice import Choice
from persistence.fleet.migration_state import state
from persistence.fleet.processes import processes
from tests.migration.gate_inputs import ask
from tests.persistence.loglib import append
from tests.persistence.samples import PARTITIONS, message
from tests.support.crossfade import Crossfade
from transport.contract import WORKER_GROUP, Topic
from transport.registry import create

ASYNC, SYNC = (Choice("redis", "redis@6", mode, "redis") for mode in ("async", "sync"))


@pytest.fixture
async def elsewhere(redis_settings, process, state_machine):
    """Settings of the processes, and of a command that names another Redis database.

    Processes are on phase 2, and both databases have both logs, with a message in each.
    """
    here = redis_settings.model_copy(update={"stream_partitions": PARTITIONS})
    there = here.model_copy(update={"redis_stream_db": here.redis_stream_db + 1})
    met = {}
    for settings in (there, here):
        for name in ("redis", "redis@6"):
            async with create(name, settings) as log:
                await append(log, message(name))
                met[name] = await log.identity()
    await state_machine.adopt(ASYNC, "first")
    await process("a", None, choice=SYNC, logs=met)
    return here, there


@pytest.mark.parametrize("gate", ["start", "homes", "workers", "drained"])
async def test_a_gate_is_red_that_reads_another_log(elsewhere, database_pool, gate):
    answers = []
    for settings in elsewhere:
        standing = await state(database_pool)
        assert standing is not None
        scene = Scene(database_pool, settings, standing, await processes(database_pool), 2, 3)
        async with scene:
            answers.append(await ask(scene, gate))
    assert "lead to another log" not in answers[0].reason
    assert (answers[1].verdict, "lead to another log" in answers[1].reason) == ("red", True)


async def test_no_mark_is_taken_from_another_log(elsewhere, database_pool):
    here, there = elsewhere
    right, wrong = Steps(database_pool, here), Steps(database_pool, there)
    await right.machine.begin((await right.look()).state.epoch, 2, who="op", why="x")
    with pytest.raises(WrongLogError):
        await wrong.complete(await wrong.look(), who="op")
    chain = KnownChain(database_pool)
    assert not await chain.load()
    assert await right.complete(await right.look(), who="op") is not None
    assert await chain.load()
    assert chain.now.whole() == {"redis", "redis@6"}


@pytest.fixture
def typed(elsewhere, database_url, tmp_path):
    """Run ``crossfade migrate ARGUMENTS`` with settings that lead to the other database."""
    _, there = elsewhere
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_HOST": there.redis_host,
        "REDIS_PORT": str(there.redis_port),
        "REDIS_STREAM_DB": str(there.redis_stream_db),
        "STREAM_PARTITIONS": str(PARTITIONS),
    }

    async def run(*arguments: str, **more: str) -> tuple[int, str]:
        ran = await Crossfade.fork("migrate", *arguments, cwd=tmp_path, **{**settings, **more})
        return await ran.ends(), " ".join(ran.text.split())

    return run


async def test_a_backfill_writes_into_no_other_log(elsewhere, typed):
    _, there = elsewhere
    logs = ("--source", "redis", "--into", "redis@6", "--settle", "0")
    status, said = await typed("backfill", *logs)
    assert (status, "lead to another log" in said) == (2, True), said
    async with create("redis@6", there) as log:
        ends = [part.appended for part in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)]
    assert sum(filter(None, ends)) == 1


@pytest.mark.parametrize("follow", [(), ("--follow",)])
async def test_no_parity_is_told_of_another_log(typed, database_pool, follow):
    """Nothing is kept of it. Where nobody can be asked, that is said, and the logs are compared."""
    logs = ("parity", "--primary", "redis", "--shadow", "redis@6", "--settle", "0")
    status, said = await typed(*logs, *follow)
    assert (status, "lead to another log" in said) == (2, True), said
    assert await database_pool.fetchval("SELECT count(*) FROM parity_reports") == 0
    if not follow:
        status, said = await typed(*logs, DATABASE_URL="postgresql://a@127.0.0.1:1/b")
        assert (status, "the processes use these logs is not known" in said) == (1, True), said
