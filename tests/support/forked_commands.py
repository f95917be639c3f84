"""Runs many ``crossfade`` commands quickly, each in a terminal of its own or with pipes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.fork_server import fork_crossfade

__all__ = ["ForkedCommands", "Ran"]

_LONGEST = 60.0  # seconds
_READ = 65_536
_AT_ONCE = 3


@dataclass(frozen=True)
class Ran:
    """The outcome of a command. In a terminal, ``output`` has the errors too."""

    status: int
    output: bytes
    errors: bytes

    @property
    def everything(self) -> str:
        """Output and errors as text; raises if they are not UTF-8."""
        return self.output.decode() + self.errors.decode()


class ForkedCommands:
    """Runs commands in ``folder``, with the given settings and no others of the environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def run(
        self,
        *arguments: str | bytes,
        settings: Mapping[str, str],
        columns: int = 200,
        terminal: bool = False,
        until: str | None = None,
        answer: bytes = b"",
    ) -> Ran:
        """Run ``crossfade ARGUMENTS`` to its end; press Ctrl-C once its output has ``until``."""
        environment = {
            "PATH": os.environ["PATH"],
            "COLUMNS": str(columns),
            "TERM": "xterm-256color",
            **settings,
        }
        async with self._turn:
            return await asyncio.to_thread(
                self._run, arguments, environment, columns if terminal else None, until, answer
            )

    def _run(
        self,
        arguments: tuple[str | bytes, ...],
        environment: dict[str, str],
        columns: int | None,
        until: str | None,
        answer: bytes,
    ) -> Ran:
        if columns is not None:
            mine, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
            ours, files = (mine,), (theirs, theirs, theirs)
            os.write(mine, answer)
        else:
            (output, to_output), (errors, to_errors) = os.pipe(), os.pipe()
            ours, files = (output, errors), (os.open(os.devnull, os.O_RDONLY), to_output, to_errors)
        command = fork_crossfade(
            arguments, environment=environment, folder=self._folder, files=files,
            terminal=columns is not None,
        )  # fmt: skip
        for end in set(files):
            os.close(end)
        output, errors = (*_collect(ours, command.pid, until), b"")[:2]
        status = command.wait()
        command.close()
        for end in ours:
            os.close(end)
        assert status is not None
        return Ran(status, output, errors)


def _collect(ends: tuple[int, ...], command: int, until: str | None) -> list[bytes]:
    """Read from each to its end."""
    read = {end: bytearray() for end in ends}
    waiting = select.poll()
    for end in ends:
        waiting.register(end, select.POLLIN)
    deadline, open_ends, stopped = time.monotonic() + _LONGEST, set(ends), False
    while open_ends:
        for end, _ in waiting.poll(500):
            data = b""
            with contextlib.suppress(OSError):  # a terminal whose other end is closed
                data = os.read(end, _READ)
            if data:
                read[end] += data
            else:
                open_ends.discard(end)
                waiting.unregister(end)
        said = b"".join(read.values()).decode(errors="replace")
        if until and not stopped and re.search(until, said):
            stopped = True
            _signal(command, signal.SIGINT)
        if time.monotonic() > deadline:
            _signal(command, signal.SIGKILL)
    return [bytes(text) for text in read.values()]


def _signal(command: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended, and its output is still read
        os.kill(command, how)
