"""``crossfade migrate run`` with real processes, which its hook restarts under load.

The other log is a third party's: Crossfade knows nothing of it, only its entry point.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.harness.checker import check
from lab.harness.final import Final, gather
from lab.harness.history import ClientHistory
from lab.harness.load import Load, LoadOptions
from persistence.fleet.migration_state import history, state
from tests.sqlite_log.installed import installed
from tests.support.eventually import eventually

NAMES = ("TRANSPORT", "TRANSPORT_SHADOW", "TRANSPORT_SHADOW_MODE", "CONSUME_FROM")
WRITE = "".join(rf"{name}=${name}\n" for name in NAMES)


def reload(pid: int) -> str:
    """Return the command that gives all processes of a supervisor the settings of a phase."""
    return f'printf "{WRITE}" > .env && kill -HUP {pid}'


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.chaos)])
async def running(typed_crossfade, places, tmp_path: Path, request: pytest.FixtureRequest):
    """Start a supervisor; each step replaces all of its processes, so two of them take longer."""
    (tmp_path / ".env").write_text("TRANSPORT=redis\n")
    places |= installed(tmp_path) | {"TRANSPORT_SHADOW_SETTLE_MS": "1000", "STREAM_PARTITIONS": "4"}
    started = await typed_crossfade("serve", "--processes", str(request.param), **places)
    await started.says('"event":"Started"')
    return started


@pytest.mark.timeout(1000)
async def test_it_walks_to_another_log_and_stops_where_it_cannot_go_on(
    typed_crossfade, places, running, database_pool
) -> None:
    """Through all phases there, and back again: no request is refused, and every promise holds."""
    sent = ClientHistory()
    target = SimpleNamespace(
        name="both", url=f"http://127.0.0.1:{places['PORT']}", up=True, phase=None
    )
    options = LoadOptions(run="walk", conversations=6, crowded=1, pause=0.3, timeout=10.0)

    async def run(log: str, *options: str, **settings: str) -> tuple[int, str]:
        """Run the command; return its exit status, and what it said."""
        named = ("--to", log, "--why", "try", "--yes", "--window", "2")
        ran = await typed_crossfade("migrate", "run", *named, *options, **{**places, **settings})
        return await ran.ends(timeout=400), ran.text

    async with Load(sent, [target], options) as load:
        await load.goes_on(20)
        status, text = await run("sqlite", "--dry-run", PYTHONPATH="")
        assert status != 0
        assert "not a transport; choose one of kafka, memory, redis, or install" in text
        status, text = await run("sqlite", "--dry-run")
        assert (status, "4 primary -> 5 sqlite" in text) == (0, True), text
        status, text = await run("sqlite", "--rolling", "exit 7")
        assert (status, "the command ended with 7" in text) == (1, True), text
        assert (await state(database_pool)).target == 1
        for log in ("sqlite", "redis"):
            status, text = await run(log, "--rolling", reload(running.process.pid))
            assert (status, f"done: {log} is written and read" in text) == (0, True), text
            await load.goes_on(20)
        status, text = await run("redis", "--rolling", "exit 7")
        assert (status, "nothing to do" in text) == (0, True), text
    # A connection that rests may be closed just as a request comes; that one is sent again.
    assert [attempt for attempt in sent.attempts if attempt.status and not attempt.answered] == []

    async def settled() -> Final | None:
        """Return the end of it, once each acknowledged message has its row."""
        final = await gather(places["DATABASE_URL"])
        acknowledged = {attempt.key for attempt in sent.acknowledged()}
        return final if acknowledged <= {row.key for row in final.rows} else None

    final = await eventually(settled)
    assert check(sent, final) == []
    assert {row.transport for row in final.rows} == {"redis", "sqlite"}
    kinds = [event.kind for event in reversed(await history(database_pool))]
    assert kinds[:2] == ["adopted", "planned"]
    assert kinds.count("completed") == 10
