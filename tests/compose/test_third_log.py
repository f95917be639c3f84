"""A log that Crossfade knows nothing of, only its entry point, in a migration there and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from compose.harness.checker import check
from compose.harness.final import Final, gather
from compose.harness.history import ClientHistory
from compose.harness.load import Load, LoadOptions
from persistence.fleet.migration_state import state
from tests.compose.test_migrate_run import reload
from tests.sqlite_log.installed import installed
from tests.support.eventually import eventually

PLAN = ("migrate", "plan", "--to", "sqlite", "--why", "try", "--yes")


@pytest.fixture
async def running(crossfade, places, tmp_path: Path):
    (tmp_path / ".env").write_text("TRANSPORT=redis\n")
    places |= installed(tmp_path) | {"TRANSPORT_SHADOW_SETTLE_MS": "1000"}
    started = await crossfade("serve", "--processes", "2", **places)
    await started.says('"event":"Started"')
    return started


@pytest.mark.timeout(1000)
async def test_a_log_of_a_third_party_walks_all_phases_there_and_back(
    crossfade, places, running, database_pool
) -> None:
    history = ClientHistory()
    target = SimpleNamespace(
        name="both", url=f"http://127.0.0.1:{places['PORT']}", up=True, phase=None
    )
    options = LoadOptions(run="third", conversations=8, crowded=2, timeout=10.0)
    async with Load(history, [target], options) as load:
        await load.goes_on(20)
        refused = await crossfade(*PLAN, **{**places, "PYTHONPATH": ""})
        assert await refused.ends() != 0
        assert "not a transport; choose one of kafka, memory, redis, or install" in refused.text
        planned = await crossfade(*PLAN, **places)
        assert await planned.ends() == 0, planned.text
        for log in ("sqlite", "redis"):
            walked = await crossfade(
                "migrate", "run", "--to", log, "--why", "try", "--yes", "--window", "2",
                "--rolling", reload(running.process.pid), **places,
            )  # fmt: skip
            assert await walked.ends(timeout=400) == 0, walked.text
            assert f"done: {log} is written and read" in walked.text
            await load.goes_on(20)
        assert (await state(database_pool)).phase == 0

    async def settled() -> Final | None:
        """Return the end of it, once each acknowledged message has its row."""
        final = await gather(places["DATABASE_URL"])
        acknowledged = {attempt.key for attempt in history.acknowledged()}
        return final if acknowledged <= {row.key for row in final.rows} else None

    final = await eventually(settled, timeout=60)
    assert check(history, final) == []
    assert {row.transport for row in final.rows} == {"redis", "sqlite"}
