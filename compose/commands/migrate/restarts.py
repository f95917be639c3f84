"""The operator's commands that restart the processes in each step of ``crossfade migrate run``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from compose.output import err, fail, warn
from compose.terminal import styled
from migration_guide.phases import phases
from migration_guide.steps import turns_back
from persistence.fleet.log_choice import LogPair

__all__ = ["Restarts"]


class Restarts(NamedTuple):
    """The commands that restart the processes, one for each group of processes.

    A command has no time limit: one that is killed leaves some processes restarted, and some not.
    But every ``told_every`` seconds a line says that it still runs.
    """

    commands: Sequence[str]
    told_every: float = 60.0

    async def run(self, pair: LogPair, phase: int, *, forward: bool) -> None:
        """Run the commands one after another, with the settings of ``phase`` as environment.

        ``forward`` is the direction of the step.
        """
        target = phases(pair)[phase]
        environment = {**os.environ, **target.choice.environment(), "CROSSFADE_PHASE": str(phase)}
        for command in self.commands:
            err.print(styled(("restarting:", "bold"), f" {command}"))
            # Standard output has this command's own output only.
            hook = await asyncio.create_subprocess_shell(
                command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
            )
            if status := await self._ended(hook):
                fail(
                    f"the command ended with {status}: {command}\nThe step to phase "
                    f"{target.label} is under way. Run this command again when that is fixed, or "
                    f"turn the step back with {turns_back(forward=forward)}"
                )

    async def _ended(self, hook: asyncio.subprocess.Process) -> int:
        """Return a command's exit status; wait for its end even if interrupted.

        Ctrl-C in a terminal ends the command too. If only this process was told to end, the command
        goes on, and a later one must not run beside it. A second Ctrl-C does not wait.
        """
        waiting = asyncio.ensure_future(hook.wait())
        telling = asyncio.create_task(self._tell_that_it_runs(hook.pid))
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not waiting.done():
                warn("waiting for the command that restarts the processes", label="interrupted")
                await waiting
            raise
        finally:
            telling.cancel()

    async def _tell_that_it_runs(self, pid: int) -> None:
        """Print from time to time that a command has not ended: it may hang."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(self.told_every)
            warn(
                f"the command that restarts the processes runs for {time.monotonic() - began:.0f} "
                f"s (process {pid}). If it hangs, end it; then this command ends too, and can be "
                "run again",
                label="waiting",
            )
