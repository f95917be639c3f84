"""Many ``crossfade`` commands in little time, each on a terminal of its own or into pipes.

A process that has imported what commands import forks for each of them: a command then takes a
tenth of what a new interpreter does. The command itself is imported after the fork, as it looks at
its terminal when it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import io
import json
import os
import pkgutil
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ForkedCommands", "Ran", "forked_commands"]

_LIBRARIES = (
    "alembic.command", "asyncpg", "crossfade", "fastapi", "redis.asyncio", "rich.live",
    "rich.progress", "sqlmodel", "structlog", "typer", "typer.rich_utils", "uvloop",
)  # fmt: skip
_PARTS = ("transport", "otel", "persistence", "ingress", "migration_guide")
_LONGEST = 60.0  # seconds
_READ = 65_536


@dataclass(frozen=True)
class Ran:
    """What became of a command. On a terminal ``output`` is all of it, and ``errors`` is empty."""

    status: int
    output: bytes
    errors: bytes

    @property
    def everything(self) -> str:
        """Both; raises where it is not UTF-8."""
        return self.output.decode() + self.errors.decode()


class ForkedCommands:
    """Runs commands with the settings of the environment given, and nothing else of ours."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._turn = asyncio.Semaphore(3)
        self._last = 0
        self.reading = asyncio.create_task(self._read())

    async def run(
        self,
        *arguments: str | bytes,
        settings: Mapping[str, str],
        columns: int = 200,
        terminal: bool = False,
        until: str | None = None,
        answer: bytes = b"",
    ) -> Ran:
        """Run ``crossfade ARGUMENTS`` to its end; ``until`` it says that, and then press Ctrl-C."""
        async with self._turn:
            self._last += 1
            number, result = self._last, self._folder / f"{self._last}.json"
            done = self._waiting[number] = asyncio.get_running_loop().create_future()
            asked = {
                "number": number,
                "result": str(result),
                "cwd": str(self._folder),
                "arguments": [os.fsencode(one).hex() for one in arguments],
                "environment": {"COLUMNS": str(columns), "TERM": "xterm-256color", **settings},
                "columns": columns,
                "terminal": terminal,
                "until": until,
                "answer": answer.hex(),
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            await asyncio.wait_for(done, 2 * _LONGEST)
            told = json.loads(result.read_bytes())
        return Ran(told["status"], bytes.fromhex(told["output"]), bytes.fromhex(told["errors"]))

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._waiting.pop(int(line)).set_result(None)


@asynccontextmanager
async def forked_commands(folder: Path) -> AsyncIterator[ForkedCommands]:
    """Start the process that forks; end it when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    commands = ForkedCommands(process, folder)
    try:
        yield commands
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await commands.reading


def _main() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for part in _PARTS:
        package = importlib.import_module(part)
        for module in pkgutil.walk_packages(package.__path__, f"{part}."):
            if "versions" not in module.name and not module.name.endswith(".env"):
                importlib.import_module(module.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked = json.loads(line)
            Path(asked["result"]).write_text(json.dumps(_run(asked)))
            os.write(1, b"%d\n" % asked["number"])
            os._exit(0)


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    """Fork the command, and read what it writes."""
    if asked["terminal"]:
        mine, theirs = pty.openpty()
        size = struct.pack("HHHH", 50, asked["columns"], 0, 0)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        ends, theirs_all = {mine: bytearray()}, (theirs, theirs, theirs)
        if asked["answer"]:
            os.write(mine, bytes.fromhex(asked["answer"]))
    else:
        output, to_output = os.pipe()
        errors, to_errors = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        ends = {output: bytearray(), errors: bytearray()}
        theirs_all = (nothing, to_output, to_errors)
    child = os.fork()
    if child == 0:
        _command(asked, theirs_all)
    for end in set(theirs_all):
        os.close(end)
    _collect(ends, child, asked["until"])
    _, status = os.waitpid(child, 0)
    texts = [bytes(text).hex() for text in ends.values()]
    return {
        "status": os.waitstatus_to_exitcode(status),
        "output": texts[0],
        "errors": texts[1] if len(texts) > 1 else "",
    }


def _collect(ends: dict[int, bytearray], child: int, until: str | None) -> None:
    deadline, open_ends, stopped = time.monotonic() + _LONGEST, set(ends), False
    while open_ends:
        ready, _, _ = select.select(open_ends, [], [], 0.5)
        for end in ready:
            data = b""
            with contextlib.suppress(OSError):  # a terminal whose other end is closed
                data = os.read(end, _READ)
            if data:
                ends[end] += data
            else:
                open_ends.discard(end)
        said = b"".join(ends.values()).decode(errors="replace")
        if until and not stopped and re.search(until, said):
            stopped = True
            os.kill(child, signal.SIGINT)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)


def _command(asked: dict[str, Any], ends: tuple[int, int, int]) -> None:
    """Become the command. Never returns."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, end in enumerate(ends):
            os.dup2(end, number)
        if asked["terminal"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        path = os.environ["PATH"]
        os.environ.clear()
        os.environ.update({"PATH": path, **asked["environment"]})
        os.chdir(asked["cwd"])
        sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(2, "w")), encoding="utf-8", errors="backslashreplace"
        )
        arguments = [os.fsdecode(bytes.fromhex(one)) for one in asked["arguments"]]
        sys.argv = ["crossfade", *arguments]
        from compose.cli import main  # noqa: PLC0415 - see the module's words

        main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else bool(error.code)
    except BaseException:  # noqa: BLE001 - as the interpreter would tell it
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


if __name__ == "__main__":
    _main()
