"""A rehearsal's progress display: a bar on a terminal, a line at each step elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from compose.rehearsal.rehearse import Rehearsal
from compose.terminal import Terminal

__all__ = ["Live"]

_EVERY = 0.5


class Live:
    """Follows one rehearsal on ``console``."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._began = time.monotonic()
        self._step = ""

    def say(self, step: str) -> None:
        """Show the current step."""
        self._step = step
        if not self._console.is_terminal:
            self._console.print(f"{time.monotonic() - self._began:7.1f} s  {step}")

    @contextmanager
    def following(self, rehearsal: Rehearsal) -> Iterator[None]:
        """Show how it gets on until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
        )
        phases = len(rehearsal.options.phases)
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("", total=phases, counts="")

            async def follow() -> None:
                while True:
                    done = max(0, len(rehearsal.timeline.bands) - 1)
                    progress.update(
                        task,
                        completed=done,
                        description=f"{self._step:<34}",
                        counts=self._counts(rehearsal),
                    )
                    await asyncio.sleep(_EVERY)

            following = asyncio.create_task(follow())
            try:
                yield
            finally:
                following.cancel()

    def _counts(self, rehearsal: Rehearsal) -> str:
        load, faults = rehearsal.load, len(rehearsal.timeline.faults)
        if load is None:
            return ""
        failed = f"[red]{load.unanswered} failed[/]" if load.unanswered else "0 failed"
        return f"[green]{load.answered} ok[/] {failed}" + (f" {faults} faults" if faults else "")
