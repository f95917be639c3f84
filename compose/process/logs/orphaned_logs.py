"""Drains orphaned logs: logs that may hold messages and that this process's settings don't name.

Changing ``TRANSPORT`` by hand can leave accepted messages behind that are not rows yet. Changing it
for some processes only makes them accept messages that no worker reads. So a process with workers
looks every five seconds for logs that other processes use, or that were used before, and runs a
follower on each one that its settings don't name. The chain allows it to persist what is in a log
that was left by hand. No message is lost or stored twice; only the order can't be kept, and a
warning says so once, unless a step of the migration is under way. A log that stays empty for a
minute, and that no process uses, is drained: it is not looked at again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

import structlog

from compose.process.context import ProcessContext
from compose.process.logs.reconnecting import ReconnectingTransport
from compose.process.metrics import ProcessMetrics
from otel.lag_reporter import LagReporter
from persistence.chain.ends import end_of
from persistence.database.outage import stopped_within
from persistence.dead_letters.position import all_indexed
from persistence.errors import PersistenceError
from persistence.fleet.migration_state import state
from persistence.fleet.retired_logs import retired_logs
from persistence.fleet.used_logs import is_used, note_drained, used_logs
from persistence.ownership.settled import unsettled
from persistence.worker.log_follower import FollowerStatus, LogFollower
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.errors import ConfigurationError, TransportError
from transport.registry import create

__all__ = ["OrphanedLogDrainer"]

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 5.0
_EMPTY_SECONDS = 60.0
"""How long a log must stay empty: processes with the earlier settings may still append to it."""


class OrphanedLogDrainer:
    """Drains the logs that are not configured here.

    Args:
        context: The parts of this process.
        configured: The names of the configured logs.
        empty_seconds: How long a log must stay empty before it counts as drained.
    """

    def __init__(
        self,
        context: ProcessContext,
        configured: Collection[str],
        *,
        empty_seconds: float = _EMPTY_SECONDS,
    ) -> None:
        self._context = context
        self._configured = configured
        self._empty = empty_seconds
        self._look = min(_LOOK_SECONDS, empty_seconds / 3)
        self._followers: dict[str, LogFollower] = {}
        self._impossible: set[str] = set()

    def status(self) -> dict[str, FollowerStatus]:
        """Return the status of each orphaned log's follower, by the log's name."""
        return {name: follower.status() for name, follower in self._followers.items()}

    async def run(self, stop: asyncio.Event) -> None:
        """Look for orphaned logs and drain each of them, until ``stop`` is set."""
        draining: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                for name in await self._others():
                    if name not in draining:
                        draining[name] = tasks.create_task(self._drain(name, stop))
                await stopped_within(stop, self._look)
                draining = {name: task for name, task in draining.items() if not task.done()}

    async def _others(self) -> list[str]:
        try:
            names = await used_logs(self._context.pool)
        except PersistenceError:
            return []
        for name in self._impossible.difference(names):  # drained elsewhere, or retired
            self._impossible.remove(name)
            self._context.metrics.of(ProcessMetrics).orphaned.labels(name).set(0)
        return [n for n in names if n not in self._configured and n not in self._impossible]

    async def _drain(self, name: str, stop: asyncio.Event) -> None:
        orphaned = self._context.metrics.of(ProcessMetrics).orphaned.labels(name)
        orphaned.set(1)
        try:
            made = create(name, self._context.settings.transport)
            async with ReconnectingTransport(made, needed=False) as log:
                await self._warn(log)
                was_retired = await self._follow(log, stop)
        except ConfigurationError as error:
            self._impossible.add(name)
            _log.warning(f"{name} is not configured here, and can't be looked into: {error}")
            return
        if not stop.is_set():
            orphaned.set(0)
            if was_retired:
                said = f"{name} was retired: what it may hold is not looked at any more"
            else:
                said = f"Nothing is left in {name}, which nobody uses any more"
            _log.info(said, transport=name)

    async def _warn(self, log: ReconnectingTransport) -> None:
        """Warn once: how many records the log may hold, and that their order may be lost.

        During a step of the migration some processes don't name both logs yet, or any more. The
        gates have seen to it that nothing loses its order by that.
        """
        if await self._is_in_a_step(log.name):
            _log.info(
                f"{log.name} is not configured here while a step of the migration is under way: "
                "a follower settles what other processes still append",
                transport=log.name,
            )
            return
        try:
            whose = "another process uses it" if await is_used(self._context.pool, log.name) else ""
        except PersistenceError:
            whose = ""
        try:
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except TransportError as error:
            holds = f"can't be reached ({error}). What it holds unread will be"
        else:
            lags = [partition.lag for partition in progress]
            if not whose and not any(lag or lag is None for lag in lags):
                return
            count = "an unknown number of" if None in lags else f"{sum(filter(None, lags))}"
            holds = f"holds {count} unread records. What is not persisted yet is"
        _log.warning(
            f"{log.name} is not configured here, but {whose or 'it was used before'}, and {holds} "
            "persisted from there, and may stand behind newer messages of its conversation. To "
            "keep the order, change logs with `crossfade migrate`.",
            transport=log.name,
        )

    async def _is_in_a_step(self, name: str) -> bool:
        """Return whether a step between this log and another one is under way."""
        try:
            found = await state(self._context.pool)
        except PersistenceError:
            return False
        return found is not None and found.under_way and name in found.pair.names

    async def _follow(self, log: ReconnectingTransport, stop: asyncio.Event) -> bool:
        """Run a follower until the log is drained or ``stop`` is set.

        Returns:
            Whether an operator retired the log.
        """
        ending = asyncio.Event()
        follower = self._context.follower(log, until_forgotten=True)
        self._followers[log.name] = follower
        connecting = asyncio.create_task(log.connect())
        lag = LagReporter(log, self._context.metrics)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(follower.run(ending))
                tasks.create_task(self._context.indexer(log).run(ending))
                tasks.create_task(lag.run(ending))
                was_retired = await self._until_empty(log, stop)
                ending.set()
        finally:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
            del self._followers[log.name]
            lag.forget()  # or alerts about this log would last as long as the process
        return was_retired

    async def _until_empty(self, log: Transport, stop: asyncio.Event) -> bool:
        """Wait until the log is drained, retired, or ``stop`` is set.

        Returns:
            Whether an operator retired the log.
        """
        loop = asyncio.get_running_loop()
        since: float | None = None
        while not await stopped_within(stop, self._look):
            if await self._is_forgotten(log.name):
                return await self._is_retired(log.name)
            if not await self._is_empty(log):
                since = None
                continue
            since = since or loop.time()
            if loop.time() - since >= self._empty and await self._given_up(log):
                return False
        return False

    async def _is_retired(self, name: str) -> bool:
        try:
            return name in await retired_logs(self._context.pool, [name])
        except PersistenceError:
            return True  # only retiring makes PostgreSQL forget a log before it is empty

    async def _is_forgotten(self, name: str) -> bool:
        """Return whether another worker found it drained, or an operator retired it."""
        try:
            return name not in await used_logs(self._context.pool)
        except PersistenceError:
            return False

    async def _is_empty(self, log: Transport) -> bool:
        """Return whether every record is a row or a dead letter, and every dead letter a row."""
        pool = self._context.pool
        try:
            progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
            if any(part.held or part.unavailable for part in progress):
                return False
            ends = {part.partition: part.end for part in progress}
            return not await unsettled(pool, log, ends) and await all_indexed(pool, log)
        except (TransportError, PersistenceError):
            return False

    async def _given_up(self, log: Transport) -> bool:
        """Note that the log is drained, unless some process still uses it."""
        try:
            marks = await end_of(log)
            if not await note_drained(self._context.pool, log.name):
                return False
            await self._context.chain.update(lambda chain: chain.ended(log.name, marks))
        except (PersistenceError, TransportError):
            return False
        return True
