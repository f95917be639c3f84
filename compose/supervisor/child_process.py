"""A child process, as its supervisor sees it: started, heard, signalled, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from compose.process.role import Role
from compose.supervisor.lifeline import Addresses

__all__ = ["ChildProcess", "Said"]

Said = Callable[[str], None]
"""Called with each line that a process writes to standard error."""


class ChildProcess:
    """A running process. Make one with ``start``."""

    def __init__(
        self, process: asyncio.subprocess.Process, lifeline: asyncio.StreamReader, said: Said | None
    ) -> None:
        self._process = process
        self.pid = process.pid
        self.addresses: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        """Its addresses: set once it serves, cancelled if it ends before."""
        self.replaced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Set once another process has its place, while this one may still finish its requests."""
        self.heard = False
        """Whether a heartbeat has come."""
        self.silent = 0
        """Checks of the supervisor since the last heartbeat."""
        self.ended = asyncio.create_task(self._run(lifeline, said))
        """Done when the process has ended: its exit status; negative for a signal's number."""

    @classmethod
    async def start(
        cls,
        name: str,
        role: Role,
        *,
        listener: int | None,
        environment: Mapping[str, str],
        said: Said | None,
    ) -> ChildProcess:
        """Start a process.

        It runs in a session of its own, so Ctrl-C in the terminal reaches only the supervisor.

        Args:
            name: Its name in the logs.
            role: Its role.
            listener: Descriptor of the socket that it accepts on; ``None`` for a worker.
            environment: Variables that differ from this process's environment.
            said: Gets its log lines; ``None``: it shares our standard error.
        """
        ours, its = socket.socketpair()
        with its:
            inherited = [its.fileno()] if listener is None else [its.fileno(), listener]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "compose.supervisor.child", name, role.value,
                *map(str, inherited),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stderr=None if said is None else subprocess.PIPE,
                pass_fds=inherited,
                start_new_session=True,
            )  # fmt: skip
        lifeline, writer = await asyncio.open_connection(sock=ours)
        child = cls(process, lifeline, said)
        child.ended.add_done_callback(lambda _: writer.close())
        return child

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process; do nothing if it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _run(self, lifeline: asyncio.StreamReader, said: Said | None) -> int:
        reading = [asyncio.create_task(self._listen(lifeline))]
        if self._process.stderr is not None and said is not None:
            reading.append(asyncio.create_task(_pass_on(self._process.stderr, said)))
        status = await self._process.wait()
        await asyncio.wait(reading, timeout=1.0)
        self.addresses.cancel()
        return status

    async def _listen(self, lifeline: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            async for line in lifeline:
                self.heard, self.silent = True, 0
                if (said := line.strip()) and not self.addresses.done():
                    self.addresses.set_result(msgspec.json.decode(said, type=Addresses))


async def _pass_on(lines: asyncio.StreamReader, said: Said) -> None:
    while True:
        try:
            line = await lines.readline()
        except ValueError:  # the line is longer than the buffer: drop that part, go on behind it
            continue
        if not line:
            return
        said(line.decode(errors="replace").rstrip("\n"))
