"""A soak's progress: a bar on a terminal, a line at each round elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compose.soak.soak import Soak
from compose.terminal import Terminal

__all__ = ["SoakProgress"]

_EVERY = 0.5


class SoakProgress:
    """Follows one soak on ``console``."""

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
    def following(self, soak: Soak) -> Iterator[None]:
        """Show how it gets on until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("", total=soak.options.seconds, counts="")

            async def follow() -> None:
                while True:
                    progress.update(
                        task,
                        completed=soak.timeline.now if soak.load else 0.0,
                        description=f"{self._step:<24}",
                        counts=_counts(soak),
                    )
                    await asyncio.sleep(_EVERY)

            following = asyncio.create_task(follow())
            try:
                yield
            finally:
                following.cancel()


def _counts(soak: Soak) -> str:
    load = soak.load
    if load is None:
        return ""
    faults = soak.faults + len(soak.timeline.faults)
    wrong = f"[red]{soak.broken} wrong[/]" if soak.broken else "0 wrong"
    return f"[green]{load.answered:,} ok[/] {load.unanswered:,} failed {faults:,} faults {wrong}"
