"""The progress of a long run: a bar on a terminal, else a line at each step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from compose.terminal import Part, Terminal, run_bar

__all__ = ["RunProgress", "Standing"]

_EVERY = 0.5
_STEP = 24  # characters: shorter steps are padded, so that the text behind them does not move


class Standing(NamedTuple):
    """How far a run has come."""

    done: float
    """The part of the total that is done, in the total's unit."""
    counts: tuple[Part, ...]


class RunProgress:
    """Shows the progress of one run.

    Args:
        console: The terminal that shows it.
        estimated: Show an estimate of the remaining time, for a run that proceeds evenly.
    """

    def __init__(self, console: Terminal, *, estimated: bool = False) -> None:
        self._console = console
        self._estimated = estimated
        self._began = time.monotonic()
        self._step = ""

    def say(self, step: str) -> None:
        """Show the current step."""
        self._step = step
        if not self._console.is_terminal:
            self._console.print(f"{time.monotonic() - self._began:7.1f} s  {step}")

    @contextmanager
    def following(self, standing: Callable[[], Standing], *, total: float) -> Iterator[None]:
        """Show the bar until the block ends.

        Args:
            standing: Returns the current progress.
            total: The value of ``Standing.done`` at the end.
        """
        if not self._console.is_terminal:
            yield
            return
        with run_bar(self._console, estimated=self._estimated) as bar:
            task = bar.add_task("", total=total, counts=())

            async def follow() -> None:
                while True:
                    now = standing()
                    bar.update(
                        task,
                        completed=now.done,
                        description=f"{self._step:<{_STEP}}",
                        counts=now.counts,
                    )
                    await asyncio.sleep(_EVERY)

            following = asyncio.create_task(follow())
            try:
                yield
            finally:
                following.cancel()
