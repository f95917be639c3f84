"""PostgreSQL fails in the middle of a step: the command goes on, or says how to."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from persistence.fleet.migration_state import history, state
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.phases import CHOICES


@pytest.fixture
async def database(database_url):
    """A proxy before PostgreSQL, for commands alone."""
    at = urlsplit(database_url)
    async with FaultProxy(at.hostname, at.port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
async def heard_of(database_pool):
    async def beat() -> None:
        while True:
            await database_pool.execute("UPDATE processes SET seen_at = now()")
            await asyncio.sleep(1)

    beating = asyncio.create_task(beat())
    yield
    beating.cancel()
    await asyncio.wait([beating])


@pytest.fixture
def command(tmp_path, database_url, database):
    """Run ``crossfade migrate ARGUMENTS`` through the proxy."""

    async def start(*arguments: str) -> Crossfade:
        at = urlsplit(database_url)
        there = f"{at.username}@{database.host}:{database.port}"
        url = at._replace(netloc=there).geturl()
        return await Crossfade.fork("migrate", *arguments, cwd=tmp_path, DATABASE_URL=url)

    return start


async def test_a_queued_step_outlives_an_outage(
    command, process, state_machine, database_pool, database
):
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 1)

    async def queued():
        found = await state(database_pool)
        return found.queued if found else None

    waiting = await command("advance", "--why", "x", "--yes", "--queue", "60", "--no-wait")
    await eventually(queued)
    before = database.connections
    database.refuse()
    database.reset()

    async def tried_or_ended() -> bool:
        return database.connections > before + 1 or waiting.process.returncode is not None

    await eventually(tried_or_ended)
    database.heal()
    await process("a", 0)
    assert await waiting.ends() == 0, waiting.text
    assert (await state(database_pool)).target == 1


@pytest.mark.parametrize(
    ("command_of", "goes_on"),
    [
        (("advance",), "'crossfade migrate status' shows it"),
        (("run", "--to", "kafka"), "The same command goes on from there"),
    ],
)
async def test_a_step_that_began_without_an_answer_is_told_and_goes_on(
    command, process, state_machine, database_pool, database, command_of, goes_on
):
    """PostgreSQL committed it, and the connection broke before its reply."""
    await state_machine.adopt(CHOICES[0], "first")
    await process("a", 0)
    arguments = (*command_of, "--why", "x", "--yes")
    database.lose_reply_to(b"COMMIT")
    cut_off = await command(*arguments)
    assert await cut_off.ends() == 1
    assert (await state(database_pool)).target == 1
    said = " ".join(cut_off.text.split())
    assert "the step may have begun" in said
    assert goes_on in said
    again = await command(*arguments, "--timeout", "1")
    assert await again.ends() != 0
    assert "is under way" in again.text
    events = [event.kind for event in await history(database_pool)]
    assert events == ["begun", "adopted"], "once"
