"""A ``crossfade`` command as a child process, as a user would run it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

from compose.local.guard import family
from tests.support.eventually import eventually
from tests.support.fork_server import ForkedProcess, fork_crossfade

__all__ = ["COMMAND", "Crossfade"]

_PATIENCE = 120.0  # seconds; a command starts servers, on a machine with other work
COMMAND = Path(sys.executable).with_name("crossfade")
_SETTINGS = re.compile(
    "(CROSSFADE|TRANSPORT|CONSUME|REDIS|KAFKA|STREAM|INGRESS|API_KEYS|DATABASE|ENABLE|IDEMPOTENCY|METRICS|LOG|"
    "OTEL|HOST|PORT|SHUTDOWN)"
)


class Crossfade:
    """One run of the command, with ``settings`` and no other settings of the environment."""

    def __init__(
        self,
        process: asyncio.subprocess.Process | _Forked,
        terminal: tuple[asyncio.StreamReader, asyncio.ReadTransport] | None = None,
    ) -> None:
        self.process = process
        self.lines: list[str] = []
        self._terminal = terminal
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        *arguments: str,
        cwd: Path,
        command: Path = COMMAND,
        typed: bool = False,
        **settings: str,
    ) -> Crossfade:
        """Start the command in ``cwd``, and collect its output.

        With ``typed`` its standard input is what ``types`` sends; else it is empty.
        """
        process = await asyncio.create_subprocess_exec(
            str(command),
            *arguments,
            cwd=cwd,
            env=_environment(settings),
            stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell that runs us in the background ignores SIGINT, and children inherit that.
            preexec_fn=_mind_ctrl_c,
        )
        return cls(process)

    @classmethod
    async def start_in_terminal(cls, *arguments: str, cwd: Path, **settings: str) -> Crossfade:
        """Start the command in a terminal of its own, and collect its output."""
        ours, its = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            str(COMMAND),
            *arguments,
            cwd=cwd,
            env=_environment(settings),
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(its)
        lines = asyncio.StreamReader()
        reading, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(ours, "rb")
        )
        return cls(process, (lines, reading))

    @classmethod
    async def fork(cls, *arguments: str, cwd: Path, **settings: str) -> Crossfade:
        """Start the command in a twentieth of the time, for tests of what it does then."""
        output, its_output = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        forked = fork_crossfade(
            arguments,
            environment=_environment(settings),
            folder=cwd,
            files=(nothing, its_output, its_output),
        )
        os.close(nothing)
        os.close(its_output)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(output, "rb")
        )
        return cls(_Forked(forked, lines))

    async def types(self, text: str) -> None:
        """Type ``text``."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        await self.process.stdin.drain()

    @property
    def text(self) -> str:
        """The output so far."""
        return "\n".join(self.lines)

    async def says(self, pattern: str) -> re.Match[str]:
        """Return the first match of ``pattern``.

        Raises:
            AssertionError: no match, and nothing new to be seen; it has the whole output.
        """

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.text)
            if match is None and self._reading.done():
                raise EOFError("it ended")
            return match

        try:
            return await eventually(found)
        except (AssertionError, EOFError) as error:
            raise AssertionError(f"never said {pattern!r}: {error}\n{self.text}") from None

    async def ends(self, timeout: float = _PATIENCE) -> int:  # noqa: ASYNC109
        """Wait for the exit status and the end of the output; return the status."""
        # Shielded, so that after a timeout the caller can kill the process and read the rest.
        await asyncio.wait_for(asyncio.shield(self._reading), timeout)
        return await asyncio.wait_for(self.process.wait(), timeout)

    async def interrupt(self) -> int:
        """Press Ctrl-C; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return await self.ends()

    async def terminate(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ends()

    def hang_up(self) -> None:
        """Close its terminal."""
        assert self._terminal is not None
        self._terminal[1].close()

    async def kill(self) -> None:
        """Send SIGKILL to the process, but not to its children."""
        if self.process.returncode is None:
            self.process.kill()
        await self.ends()

    def family(self) -> list[int]:
        """Return the ids of the process and everything it started."""
        return family(self.process.pid)

    async def _read(self) -> None:
        output = self._terminal[0] if self._terminal else self.process.stdout
        assert output is not None
        async for line in output:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))


class _Forked:
    """A forked process with the interface of asyncio's ``Process``."""

    stdin = None

    def __init__(self, process: ForkedProcess, stdout: asyncio.StreamReader) -> None:
        self.pid = process.pid
        self.stdout = stdout
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int | None:
        status = await asyncio.to_thread(self._process.wait)
        self._process.close()
        return status


def _environment(settings: dict[str, str]) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not _SETTINGS.match(k)}
    return {**inherited, "COLUMNS": "200", "SHUTDOWN_DELAY_SECONDS": "0", **settings}


def _mind_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _take_terminal() -> None:
    _mind_ctrl_c()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
