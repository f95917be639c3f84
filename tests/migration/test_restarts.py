"""The command that restarts the processes in a step of ``crossfade migrate run``."""

from __future__ import annotations

import asyncio

from compose.commands.migrate.restarts import Restarts
from persistence.fleet.log_choice import FIRST_PAIR
from tests.support.eventually import eventually


async def test_a_command_that_hangs_is_told_with_its_process(tmp_path, capfd):
    """And it is not killed: it may have restarted some of the processes."""
    end = tmp_path / "end"
    restarts = Restarts([f"until test -e {end}; do sleep 0.05; done"], told_every=0.1)
    running = asyncio.create_task(restarts.run(FIRST_PAIR, 1, forward=True))
    said = ""

    async def told_twice() -> bool:
        nonlocal said
        said += " ".join(capfd.readouterr().err.split()) + " "
        return said.count("If it hangs, end it") >= 2

    await eventually(told_twice)
    assert "(process " in said
    assert not running.done()
    end.touch()
    await running
