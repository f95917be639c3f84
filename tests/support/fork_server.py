"""A fork server: starts ``crossfade`` processes in a twentieth of the usual time.

A ``crossfade`` process takes a second of CPU time to import its libraries, and a test run starts
hundreds. The fork server has imported them. A fork runs the same ``main`` with its own arguments,
environment, folder and files. ``tests/compose`` starts the command as users do.

``compose`` itself is imported after the fork, since it examines its terminal at the import.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from compose.local.guard import signal_all

__all__ = ["ForkedProcess", "fork_crossfade"]

_LIBRARIES = (
    "alembic.command", "asyncpg", "crossfade_client", "fastapi", "redis.asyncio", "rich.live",
    "rich.progress", "sqlmodel", "structlog", "typer", "typer.rich_utils", "uvloop",
)  # fmt: skip
_PARTS = ("transport", "otel", "persistence", "ingress", "migration_guide")
_LONGEST = 1 << 17  # bytes of a request: arguments and environment
_PR_SET_PDEATHSIG = 1
_TERMINATED = -signal.SIGTERM
# Services start at once, in threads: without it each would start a fork server of its own.
_STARTING = threading.Lock()


class ForkedProcess:
    """A forked ``crossfade`` process."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return its exit status, or ``None`` while it runs."""
        return self.wait(0.0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end; return its exit status, or ``None`` if it still runs at the timeout."""
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._connection, select.POLLIN)
            ended.poll(None if timeout is None else timeout * 1000)
            with self._lock:
                if self.returncode is None:
                    with contextlib.suppress(BlockingIOError):
                        # The fork server was killed, so its processes end too.
                        self.returncode = int(
                            self._connection.recv(64, socket.MSG_DONTWAIT) or _TERMINATED
                        )
        return self.returncode

    def close(self) -> None:
        """Close our connection to the process, which may go on."""
        self._connection.close()

    def stop(self, grace: float) -> None:
        """Ask it to stop, as SIGTERM does; kill it and its children after ``grace`` seconds."""
        signal_all(self.pid, signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        if self.wait(grace) is None:
            signal_all(self.pid, signal.SIGKILL)
            self.wait()


def fork_crossfade(
    arguments: Sequence[str | bytes],
    *,
    environment: Mapping[str, str],
    folder: Path,
    files: tuple[int, int, int],
    terminal: bool = False,
) -> ForkedProcess:
    """Run ``crossfade ARGUMENTS`` with ``files`` as standard input, output and error.

    With ``terminal`` they are its controlling terminal.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(_address())
    request = {
        "arguments": [os.fsencode(argument).hex() for argument in arguments],
        "environment": dict(environment),
        "folder": str(folder),
        "terminal": terminal,
    }
    socket.send_fds(connection, [json.dumps(request).encode()], files)
    return ForkedProcess(int(connection.recv(64)), connection)


def _address() -> str:
    """Return the address of this process's fork server, which the first call starts."""
    with _STARTING:
        return _start()


@cache
def _start() -> str:
    folder = tempfile.TemporaryDirectory(prefix="fork-server-")
    address = f"{folder.name}/socket"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(64)
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(listening.fileno())],
        stdin=subprocess.PIPE, pass_fds=[listening.fileno()], start_new_session=True,
    )  # fmt: skip
    listening.close()

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return address


def _serve(listening: socket.socket) -> dict[str, Any]:
    """Fork for each request. Returns the request in each fork; never returns in the parent."""
    children: dict[int, socket.socket] = {}
    prctl = ctypes.CDLL(None).prctl  # loaded here because loading it after a fork is not safe
    woken, wakes = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    while True:
        ready, _, _ = select.select([sys.stdin, listening, woken], [], [])
        if sys.stdin in ready:  # the parent has ended
            os._exit(0)
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(children)
        if listening in ready:
            connection, _ = listening.accept()
            data, files, _, _ = socket.recv_fds(connection, _LONGEST, 3)
            pid = os.fork()
            if pid == 0:
                prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
                signal.set_wakeup_fd(-1)
                for end in (*children.values(), connection, listening):
                    end.close()
                for descriptor in (woken, wakes):
                    os.close(descriptor)
                return {**json.loads(data), "files": files}
            for descriptor in files:
                os.close(descriptor)
            children[pid] = connection
            connection.send(b"%d" % pid)


def _report_ended(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with children.pop(pid) as connection, contextlib.suppress(BrokenPipeError):
            connection.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(request: dict[str, Any]) -> None:
    """Take over the files, folder, environment and arguments that were requested."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(request["files"]):
        os.dup2(descriptor, number)
    for descriptor in request["files"]:
        os.close(descriptor)
    if request["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w")), encoding="utf-8", errors="backslashreplace",
        line_buffering=True,
    )  # fmt: skip
    sys.argv = [
        "crossfade",
        *(os.fsdecode(bytes.fromhex(argument)) for argument in request["arguments"]),
    ]


def _main(listening: socket.socket) -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for part in _PARTS:
        package = importlib.import_module(part)
        for module in pkgutil.walk_packages(package.__path__, f"{part}."):
            if "versions" not in module.name and not module.name.endswith(".env"):
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # keeps forks from copying the memory of imported modules
    _become(_serve(listening))
    status = 1
    try:
        from compose.cli import main  # noqa: PLC0415 - after the fork, see above

        main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else bool(error.code)
    except BaseException:  # noqa: BLE001 - as the interpreter would tell it
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # A normal exit would destroy every object, and so copy all memory that forks share.
        os._exit(status)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
