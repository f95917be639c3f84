"""One server process under its guard: started, stopped, and damaged by tests.

A server counts as started once it proves its identity: another server may have taken its port and
answer there. The proof is something that only the right process knows (a password or name made for
it, or its data folder).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Self

from compose.local import guard
from compose.local.guard import signal_all, stand_still
from compose.local.language import in_english
from compose.local.os_errors import explained_by
from compose.local.ports import free_port, pick

__all__ = ["LocalServer", "ServerError", "ServerPortTakenError", "all_started"]

_POLL = 0.02
_STOP_POLL = 0.001
_STOP_SECONDS = 10.0
_OTHERS_STOP = 20.0  # seconds for the guard of an earlier run to stop its server
_LOG_TAIL = 12
_PORT_RACES = 20
_TAKEN = os.strerror(errno.EADDRINUSE)


class ServerError(Exception):
    """A local server can't be started or stopped. The message says why and what to do."""


class ServerPortTakenError(ServerError):
    """Another program has the server's port."""


class LocalServer(ABC):
    """Base class of the real servers on loopback: start, stop, kill, suspend.

    Subclasses define the command, and when the server takes requests. A data folder has one server
    at a time.

    Args:
        name: The product, for messages.
        data_dir: The data. The server's log and the lock of the data are beside this folder.
        port: The port that the server must have.
        near: The preferred port; if it is taken, the server gets another.
        stop_signal: Asks the server to stop in good order.
        grace: Seconds from that signal until the server is killed.
        identity: User and group to run as; ``None``: ours.
        environment: Variables in addition to our own; read at each start.
        folder: The working directory; ``None``: ours.
    """

    host = "127.0.0.1"
    ready_within = 180.0
    """Seconds for one start."""

    def __init__(  # noqa: PLR0913 - options, of which each server sets few
        self,
        name: str,
        data_dir: Path,
        *,
        port: int | None = None,
        near: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 15.0,
        identity: tuple[int, int] | None = None,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.data_dir = data_dir.resolve()
        self.log_path = self.data_dir.with_name(f"{data_dir.name}.log")
        self.pid: int | None = None
        self.environment = environment or {}
        self._lock_path = self.data_dir.with_name(f".{data_dir.name}.lock")
        self._near = near
        self._port_is_fixed = port is not None
        self._stop_signal = stop_signal
        self._grace = grace
        self._identity = identity
        self._folder = folder
        self._guard: subprocess.Popen[bytes] | None = None
        self._log_began = 0
        self._choose_ports(port)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Whether the process lives, suspended or not."""
        return self._guard is not None and self._guard.poll() is None

    def _choose_ports(self, port: int | None) -> None:
        """Set the ports; called again if another program took one before the server bound it."""
        self.port = port or (pick(self._near) if self._near else free_port())

    def _prepare(self) -> None:  # noqa: B027 - most servers need it, not all
        """Make the files that the server needs. Called before each start, in a thread."""

    def _tells(self, line: str) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether a line of the server's log helps a person; others are left out."""
        return True

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the program and its arguments."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Return whether this server, and no other on its port, takes requests."""

    async def start(self) -> None:
        """Start the server; return once it takes requests.

        Raises:
            ServerPortTakenError: another program has the port that the server must have.
            ServerError: the server ended, was not ready in time, or its data is in use.
        """
        if self.running:
            raise ServerError(f"{self.name} is running already (pid {self.pid})")
        for attempt in range(_PORT_RACES):
            await asyncio.to_thread(self._prepare)
            await asyncio.to_thread(self._spawn)
            try:
                await self._until_ready()
            except ServerPortTakenError:
                await self.stop()
                if self._port_is_fixed or attempt + 1 == _PORT_RACES:
                    raise
                self._choose_ports(None)
            except BaseException:
                await self.stop()
                raise
            else:
                self._port_is_fixed = True  # clients know it now: a restart keeps it
                return

    async def restart(self) -> None:
        """Stop and start on the same ports and data."""
        await self.stop()
        await self.start()

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + self.ready_within
        while not await self._is_ready():
            if not self.running:
                raise self._why_it_ended()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} was not ready in {self.ready_within:.0f} s:\n{self.log_tail()}"
                )
            await asyncio.sleep(_POLL)

    async def stop(self) -> None:
        """Stop the server in good order: closing the guard's input does it, as our death would."""
        running = self._guard
        if running is None:
            return
        if running.stdin is not None:
            running.stdin.close()
        await asyncio.to_thread(running.wait)
        self._guard = self.pid = None

    async def kill(self) -> None:
        """Send SIGKILL to the server and all its children; return once it has ended."""
        if self._guard is not None and self.pid is not None and self.running:
            signal_all(self.pid, signal.SIGKILL)
        await self.stop()

    async def suspend(self) -> None:
        """Send SIGSTOP to the server and all its children, and wait until they stand still.

        Raises:
            ServerError: a thread still runs after ten seconds.
        """
        pid = self._live_pid()
        signal_all(pid, signal.SIGSTOP)
        ends = time.monotonic() + _STOP_SECONDS
        while not stand_still(pid):
            if time.monotonic() > ends:
                raise ServerError(
                    f"{self.name} does not stand still: somebody resumes it, or a "
                    "disk that it waits for does not answer"
                )
            await asyncio.sleep(_STOP_POLL)

    async def resume(self) -> None:
        """Send SIGCONT to the server and all its children."""
        signal_all(self._live_pid(), signal.SIGCONT)

    def held(self) -> bool:
        """Return whether a server of ours, from this run or an earlier one, uses the data now."""
        try:
            with self._lock_path.open("a+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def log_tail(self) -> str:
        """Return the last log lines of the server since its last start."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_began)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        lines = [line for line in lines if self._tells(line)]
        return "\n".join(lines[-_LOG_TAIL:])

    def _why_it_ended(self) -> ServerError:
        said = self.log_tail()
        if _TAKEN in said:
            return ServerPortTakenError(
                f"{self.name} ended while starting: its port is in use:\n{said}"
            )
        if why := explained_by(said, self.data_dir):
            return ServerError(f"{self.name} ended while starting: {why}")
        return ServerError(
            f"{self.name} ended while starting; the end of its log ({self.log_path}) is:\n{said}"
        )

    def _live_pid(self) -> int:
        if self.pid is None or not self.running:
            raise ServerError(f"{self.name} is not running")
        return self.pid

    def _spawn(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        identity = f"{self._identity[0]}:{self._identity[1]}" if self._identity else "-"
        with self._lock() as lock, self.log_path.open("ab") as log:
            self._log_began = log.tell()
            self._guard = subprocess.Popen(
                # -I -S: nothing but the standard library, whatever the caller's environment is.
                [
                    sys.executable, "-I", "-S", guard.__file__, self._stop_signal.name,
                    str(self._grace), str(lock.fileno()), identity, "--",
                    *self._command(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                env=in_english(os.environ | self.environment),
                cwd=self._folder,
            )  # fmt: skip
            assert self._guard.stdout is not None
            with self._guard.stdout as output:
                line = output.readline()
            if not line:
                self._guard.communicate()
                self._guard = None
                raise ServerError(f"{self.name} did not start:\n{self.log_tail()}")
            self.pid = int(line)
            lock.seek(0)
            lock.truncate()
            lock.write(line)

    def _lock(self) -> IO[bytes]:
        """Lock the data folder; guard and server inherit the lock and hold it while either lives.

        So a start notices a server that outlived a killed guard, and one that is still stopping.
        """
        lock = self._lock_path.open("a+b")
        deadline = time.monotonic() + _OTHERS_STOP
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.seek(0)
                    pid = lock.read().decode().strip() or "unknown"
                    lock.close()
                    raise ServerError(
                        f"a {self.name} of an earlier run (pid {pid}) still uses the data beside "
                        f"{self._lock_path}; stop it with: kill {pid}"
                    ) from None
                time.sleep(_POLL)
            else:
                return lock


async def all_started(starts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Start servers at once. If one can't be started, cancel the start of the others.

    Raises:
        ServerError: the first failure; not an exception group, since one sentence is shown.
    """
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
