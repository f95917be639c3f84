"""``crossfade migrate run`` with real processes, which its hook restarts under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistence.fleet.migration_state import history, state
from tests.support.eventually import eventually
from tests.support.keep_alive import keep_alive_load

NAMES = ("TRANSPORT", "TRANSPORT_SHADOW", "TRANSPORT_SHADOW_MODE", "CONSUME_FROM")
WRITE = "".join(rf"{name}=${name}\n" for name in NAMES)


def reload(pid: int) -> str:
    """Return the command that gives all processes of a supervisor the settings of a phase."""
    return f'printf "{WRITE}" > .env && kill -HUP {pid}'


@pytest.fixture
async def running(crossfade, places, tmp_path: Path):
    (tmp_path / ".env").write_text("TRANSPORT=redis\n")
    started = await crossfade("serve", "--processes", "2", **places)
    await started.says('"event":"Started"')
    return started


@pytest.mark.timeout(600)
async def test_it_walks_to_another_log_and_stops_where_it_cannot_go_on(
    crossfade, places, running, database_pool
):
    walk = ("migrate", "run", "--to", "redis@16", "--why", "try", "--yes", "--window", "2")
    async with keep_alive_load(int(places["PORT"]), 4) as load:
        await eventually(lambda: load.statuses[202] > 20)
        tried = await crossfade(*walk, "--dry-run", **places)
        assert await tried.ends() == 0
        assert "4 primary -> 5 redis@16" in tried.text
        broken = await crossfade(*walk, "--rolling", "exit 7", **places)
        assert await broken.ends() == 1
        assert "the command ended with 7" in broken.text
        assert (await state(database_pool)).target == 1
        walked = await crossfade(*walk, "--rolling", reload(running.process.pid), **places)
        assert await walked.ends(timeout=150) == 0, walked.text
        assert "done: redis@16 is written and read" in walked.text
        again = await crossfade(*walk, "--rolling", "exit 7", **places)
        assert await again.ends() == 0
        assert "nothing to do" in again.text
    assert load.faults == []
    assert set(load.statuses) == {202}

    async def rows() -> int:
        counted = await database_pool.fetchval("SELECT count(*) FROM messages")
        return counted if counted >= load.statuses[202] else 0

    unanswered = 4  # requests under way when the clients ended
    assert await eventually(rows, timeout=60) <= load.statuses[202] + unanswered
    kinds = [event.kind for event in reversed(await history(database_pool))]
    assert kinds[:2] == ["adopted", "planned"]
    assert kinds.count("completed") == 5
