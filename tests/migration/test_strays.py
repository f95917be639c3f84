"""A process with the settings of another phase is told by the console, ``status`` and ``doctor``.

They are one process's rows, which are heard of again and again, as a process is.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from ingress.console.sampler import Sampler
from persistence.fleet.migration_state import state
from persistence.fleet.processes import processes, strays
from tests.support.crossfade import Crossfade
from tests.support.phases import CHOICES


@pytest.fixture
async def told(database_pool, process, state_machine):
    """Make a process on phase 3; return the sentences of the console about it."""
    await state_machine.adopt(CHOICES[0], "first")

    async def sentences(phase: int) -> list[tuple[str, str]]:
        await process("a", phase)
        health = (await Sampler([], database_pool, seen_by="test").status()).health
        return [(sentence.level, sentence.text) for sentence in health]

    return sentences


async def test_a_phase_that_the_migration_does_not_stand_at_is_told(told, state_machine):
    assert await told(0) == [("ok", "No problem is known.")]
    ((level, text),) = await told(3)
    assert level == "warning"
    assert "1 process has the settings of another phase" in text
    await state_machine.begin(1, 1, who="op", why="x")
    assert await told(1) == [("ok", "No problem is known.")]
    assert len(await told(2)) == 1


async def test_the_phase_of_a_queued_step_is_no_stray(process, state_machine, database_pool):
    await state_machine.adopt(CHOICES[0], "first")
    await state_machine.queue(1, 1, who="op", why="x", seconds=60, red=["processes"])
    await process("early", 1)
    await process("wrong", 3)
    await process("gone", 3, silent=20)
    standing = await state(database_pool)
    found = strays(await processes(database_pool), standing)
    assert [process.member for process in found] == ["wrong"]


async def test_the_doctor_warns_of_it(told, database_pool, database_url, tmp_path):
    async def found() -> dict[str, str]:
        await database_pool.execute("UPDATE processes SET seen_at = now()")
        settings = {"DATABASE_URL": database_url, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"}
        ran = await Crossfade.fork("doctor", "--json", cwd=tmp_path, **settings)
        await asyncio.wait_for(ran.ends(), 60)
        seen = json.loads(ran.text)
        return {each["what"]: each["found"] for each in seen if each["of"] == "postgresql"}

    await told(0)
    assert "settings" not in await found()
    await told(3)
    assert (await found())["settings"].startswith("those of a are of another phase")
