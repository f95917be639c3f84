"""The connections of a ``crossfade migrate`` command, and the output of its refusals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from compose.output import client_settings, fail, run
from migration_guide.errors import MigrationError
from migration_guide.steps import Steps
from persistence.database.pool import Pool, connect

__all__ = ["explained", "session"]

_INTERRUPTED = 130  # as after Ctrl-C
_OUTPUTS = (1, 2)  # standard output and standard error

T = TypeVar("T")


@asynccontextmanager
async def session(*, say: bool = True) -> AsyncIterator[tuple[Steps, Pool]]:
    """Yield the migration's steps and a pool for the database of the settings.

    With ``say``, print the servers if they are those of a ``crossfade up``.
    """
    settings = client_settings(say=say)
    pool = await connect(settings.persistence)
    try:
        yield Steps(pool, settings.transport), pool
    finally:
        await pool.close()


def explained(main: Callable[[], Coroutine[Any, Any, T]], *, unreachable: int = 1) -> T:
    """Run a command's coroutine as ``run`` does; a refusal ends the command with one line, too.

    'kill' and a terminal that closes end it as Ctrl-C does: a queued step is taken away, and a
    command that restarts the processes is not left behind. 'nohup' keeps its meaning.
    """

    async def interruptible() -> T:
        with _ended_by(signal.SIGTERM, signal.SIGHUP):
            return await main()

    try:
        return run(interruptible, unreachable=unreachable)
    except MigrationError as error:
        fail(str(error))
    except asyncio.CancelledError:
        sys.exit(_INTERRUPTED)


@contextmanager
def _ended_by(*signals: signal.Signals) -> Iterator[None]:
    """Let signals cancel the present task, except those that this process was started to ignore."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    terminals = [output for output in _OUTPUTS if os.isatty(output)]

    def end() -> None:
        _leave_closed(terminals)
        task.cancel()

    handled = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in handled:  # uvloop keeps them when it is closed
            loop.remove_signal_handler(number)


def _leave_closed(terminals: Sequence[int]) -> None:
    """Send the output for closed terminals to /dev/null: an error would end the clean-up."""
    for output in terminals:
        if not os.isatty(output):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, output)
            os.close(nothing)
