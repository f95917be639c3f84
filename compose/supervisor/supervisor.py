"""Keep several processes running: start, restart with backoff, replace one by one, stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from compose.counting import counted
from compose.process.role import Role
from compose.process.service_manager import ServiceManager
from compose.process.tasks import Tasks
from compose.supervisor.child_process import ChildProcess, Said
from compose.supervisor.lifeline import BEAT_SECONDS, Addresses
from compose.supervisor.listeners import Listeners
from transport.backoff import Backoff
from transport.errors import ConfigurationError

__all__ = ["Layout", "StartFailedError", "Supervisor"]

log = structlog.get_logger(__name__)

_BAD_SETTINGS = 2  # exit status of a command whose settings can't work
_FIRST_PAUSE = 1.0  # seconds; doubled up to the longest
_LONGEST_PAUSE = 30.0
_CALM_SECONDS = 60.0  # a process that ran this long died of a new cause: the backoff starts over
_START_SECONDS = 60.0
_START_BEATS = int(_START_SECONDS / BEAT_SECONDS)
_SILENT_SECONDS = 30.0
_DUMP_BEATS = 2


class StartFailedError(Exception):
    """A process ended while it started; its log says why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a process that was started ended with {_how(status)}")
        self.status = max(1, status)


@dataclass(frozen=True)
class Layout:
    """The number of processes of each role."""

    processes: int
    """Processes that accept messages; they consume too, unless there are ``workers``."""
    workers: int = 0
    """Processes that only consume."""

    def __str__(self) -> str:
        """Return the layout in words."""
        if not self.workers:
            return counted(self.processes, "process", "processes")
        accept = counted(self.processes, "process accepts", "processes accept")
        return f"{accept}, {counted(self.workers, 'consumes', 'consume')}"


class _Slot:
    """The place of one process: when it ends, another takes it."""

    def __init__(self, role: Role, number: int) -> None:
        self.role = role
        self.name = f"{role.value} {number}"
        self.listener = number - 1 if role is Role.SERVE else None
        self.child: ChildProcess | None = None
        self.changing = asyncio.Lock()
        """Held while a process is started for this slot."""
        self.backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, calm=_CALM_SECONDS)


class Supervisor:
    """Starts, watches, replaces and stops the processes of one port.

    Args:
        layout: The number of processes.
        listeners: A socket for each process that accepts.
        stop_seconds: How long a process may take to stop before it is killed.
        environment: Settings that differ from this process's environment.
        said: Gets the processes' log lines; without it they share our standard error.
        silent_seconds: How long a process may send no heartbeat before it is killed.
        manager: Is told of reloads.
    """

    def __init__(
        self,
        layout: Layout,
        listeners: Listeners,
        *,
        stop_seconds: float,
        environment: Mapping[str, str] | None = None,
        said: Said | None = None,
        silent_seconds: float = _SILENT_SECONDS,
        manager: ServiceManager | None = None,
    ) -> None:
        self._layout = layout
        self._listeners = listeners
        self._stop_seconds = stop_seconds
        self._environment = dict(environment or {})
        if layout.workers:
            self._environment["ENABLE_STREAM_CONSUMERS"] = "false"  # a worker consumes all the same
        self._said = said
        self._manager = manager or ServiceManager({})
        self._silent_beats = int(silent_seconds / BEAT_SECONDS)
        self._began = 0.0
        self._children: set[ChildProcess] = set()
        self._slots = [
            *(_Slot(Role.SERVE, number + 1) for number in range(layout.processes)),
            *(_Slot(Role.WORKER, number + 1) for number in range(layout.workers)),
        ]

    async def start(self) -> Addresses:
        """Start every process; return the first one's addresses once all of them serve.

        The first process starts alone, so that a setting that can't work is reported once.

        Raises:
            StartFailedError: a process ended, or hung and was killed, before it served.
        """
        first, *others = self._slots
        watching = asyncio.create_task(self._watch())
        try:
            addresses = await self._first(first)
            await asyncio.gather(*map(self._first, others))
        finally:
            watching.cancel()
        return addresses

    async def _first(self, slot: _Slot) -> Addresses:
        child = slot.child = await self._spawn(slot)
        try:
            return await child.addresses
        except asyncio.CancelledError:
            if not child.ended.done():
                raise  # this task was cancelled
            raise StartFailedError(child.ended.result()) from None

    async def run(self, stop: asyncio.Event, reload: asyncio.Event) -> None:
        """Keep the processes running until ``stop`` is set; replace each when ``reload`` is set.

        Raises:
            StartFailedError: within the first minute, a process ended because of its settings.
        """
        self._began = time.monotonic()
        tasks = Tasks()
        for slot in self._slots:
            tasks.add(slot.name, self._keep(slot))
        tasks.add("watch", self._watch())
        tasks.add("reload", self._reload(reload))
        try:
            await tasks.until(stop)
        finally:
            await tasks.cancel_all()

    async def stop(self) -> None:
        """Stop all processes at once, each in good order; return when none is left."""
        self._listeners.close()  # each process has its own copy, and serves what waits there
        await asyncio.gather(*map(self._end, set(self._children)))

    def kill(self) -> None:
        """Send SIGKILL to all processes."""
        for child in self._children:
            child.send(signal.SIGKILL)

    async def _spawn(self, slot: _Slot) -> ChildProcess:
        listener = None if slot.listener is None else self._listeners.descriptor(slot.listener)
        child = await ChildProcess.start(
            slot.name, slot.role, listener=listener, environment=self._environment, said=self._said
        )
        self._children.add(child)
        child.ended.add_done_callback(lambda _: self._children.discard(child))
        return child

    async def _keep(self, slot: _Slot) -> None:
        """Start another process each time the slot's process ends unasked."""
        while True:
            child = slot.child
            assert child is not None
            # Once it is replaced, it may take long to end, and its successor may die meanwhile.
            ends: set[asyncio.Future[Any]] = {child.ended, child.replaced}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            async with slot.changing:
                if slot.child is child:
                    await self._restart(slot, child)

    async def _restart(self, slot: _Slot, dead: ChildProcess) -> None:
        status = dead.ended.result()
        if status == _BAD_SETTINGS and time.monotonic() - self._began < _CALM_SECONDS:
            raise StartFailedError(status)
        while True:
            pause = slot.backoff.next()
            log.error(
                "Process ended: starting another",
                process=slot.name,
                pid=dead.pid,
                ended=_how(status),
                in_seconds=round(pause, 1),
            )
            try:
                if slot.listener is not None:
                    self._listeners.renew(slot.listener)
                await asyncio.sleep(pause)
                slot.child = await self._spawn(slot)
            except (OSError, ConfigurationError) as error:
                log.warning("Process can't be started; will retry", error=str(error))
                await asyncio.sleep(pause)
            else:
                return

    async def _watch(self) -> None:
        """Kill processes that send no heartbeat.

        It counts checks and not seconds: while the machine is suspended, nothing is checked.
        """
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for child in self._children:
                child.silent += 1
                limit = self._silent_beats if child.heard else _START_BEATS
                if child.silent == limit:
                    log.error("Process does not respond: killing it", pid=child.pid)
                    child.send(signal.SIGABRT)  # it writes where each of its threads is
                elif child.silent == limit + _DUMP_BEATS:
                    child.send(signal.SIGKILL)

    async def _reload(self, reload: asyncio.Event) -> None:
        while True:
            await reload.wait()
            reload.clear()
            log.info("Reloading: replacing each process")
            self._manager.reloading()
            for slot in self._slots:
                if not await self._replace(slot):
                    self._manager.ready(f"{self._layout}; the last reload was given up")
                    break
            else:
                log.info("Reloaded")
                self._manager.ready(str(self._layout))

    async def _replace(self, slot: _Slot) -> bool:
        """Start another process for the slot, and stop the old one once the new one serves.

        Returns:
            Whether the new process serves; if not, the old one goes on.
        """
        async with slot.changing:
            old = slot.child
            assert old is not None
            try:
                new = await self._spawn(slot)
            except OSError as error:
                log.warning("Reload given up: no process can be started", error=str(error))
                return False
            # Cancelled if it ends before it serves.
            done, _ = await asyncio.wait({new.addresses}, timeout=_START_SECONDS)
            if not done or new.addresses.cancelled():
                new.send(signal.SIGKILL)
                log.error(
                    "Reload given up: the new process did not start, and the old ones go on",
                    process=slot.name,
                    ended=_how(await new.ended),
                )
                return False
            slot.child = new
            old.replaced.set_result(None)
        # The new one serves the address of one that accepts; a worker has an address of its own.
        await self._end(old, signal.SIGTERM if slot.listener is None else signal.SIGHUP)
        return True

    async def _end(self, child: ChildProcess, number: signal.Signals = signal.SIGTERM) -> None:
        child.send(number)
        done, _ = await asyncio.wait({child.ended}, timeout=self._stop_seconds)
        if not done:
            log.error(
                "Process did not stop: killing it", pid=child.pid, after_seconds=self._stop_seconds
            )
            child.send(signal.SIGKILL)
            await asyncio.wait({child.ended})


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
