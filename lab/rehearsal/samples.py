"""Samples the workers' lag on both logs, and the running parity comparison, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from compose.process.logs.reconnecting import ReconnectingTransport
from lab.harness.waiting import wait_until
from lab.rehearsal.parity_watch import Parity, ParityWatch
from lab.rehearsal.timeline import PlaceMark, RehearsalTimeline
from transport.contract import DLQ_GROUP, WORKER_GROUP, Progress, Topic
from transport.errors import TransportError
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Lag", "Observer"]

_EVERY = 1.0
_WITHIN = 1.5


class Lag(msgspec.Struct, rename="camel"):
    """One sample. ``lag`` sums all partitions of a log, by log; ``None`` if it is unknown."""

    at: float
    lag: dict[str, int | None]
    parity: Parity | None = None


class Observer:
    """Reads both logs beside the service. Call ``watch`` for a log once the service uses it."""

    def __init__(self, timeline: RehearsalTimeline, parity: ParityWatch) -> None:
        self.samples: list[Lag] = []
        self.logs: dict[str, ReconnectingTransport] = {}
        self._timeline = timeline
        self._parity = parity
        self._places: dict[tuple[str, int], str] = {}
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def observing(self) -> AsyncIterator[None]:
        """Sample until the block ends."""
        async with self._stack:
            self._tasks.add(asyncio.create_task(self._sample()))
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                self._parity.close()

    async def watch(self, name: str, settings: TransportSettings) -> None:
        """Sample this log too, from now on or from when it can be reached."""
        if name not in self.logs:
            log = await self._stack.enter_async_context(
                ReconnectingTransport(create(name, settings))
            )
            self.logs[name] = log
            self._tasks.add(asyncio.create_task(log.connect()))

    async def drained(self, log: str, within: float = 300.0) -> None:
        """Wait until every record of a log is settled, including its dead letters.

        Raises:
            StuckError: records are left after ``within`` seconds.
        """
        transport = self.logs[log]
        left: dict[tuple[str, int], int | None] | None = None

        async def nothing_left() -> bool:
            nonlocal left
            try:
                messages = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
                letters = await transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
            except TransportError:
                return False
            left = {
                (topic, part.partition): part.lag
                for topic, progress in (("messages", messages), ("dead letters", letters))
                for part in progress
                if part.lag != 0
            }
            return not left

        await wait_until(
            nothing_left,
            within=within,
            otherwise=lambda: f"not settled in {log}: {'unknown' if left is None else left}",
            every=0.2,
        )

    async def _sample(self) -> None:
        while True:
            began = self._timeline.now
            names = list(self.logs)
            lagging = asyncio.gather(*(self._lag(name) for name in names))
            parity, lags = await asyncio.gather(self._parity.look(), lagging)
            self.samples.append(Lag(began, dict(zip(names, lags, strict=True)), parity))
            await asyncio.sleep(max(0.0, _EVERY - (self._timeline.now - began)))

    async def look(self) -> None:
        """Sample the positions that every log shows once."""
        await asyncio.gather(*map(self._lag, self.logs))

    async def _lag(self, name: str) -> int | None:
        try:
            async with asyncio.timeout(_WITHIN):
                progress = await self.logs[name].progress(Topic.MESSAGES, group=WORKER_GROUP)
        except (TransportError, TimeoutError):
            return None
        self._mark(name, progress)
        lags = [part.lag for part in progress]
        return None if None in lags else sum(lag for lag in lags if lag is not None)

    def _mark(self, name: str, progress: Iterable[Progress]) -> None:
        at = self._timeline.now
        for part in progress:
            where = (name, part.partition)
            if part.floor is not None and self._places.get(where) != part.floor:
                self._places[where] = part.floor
                self._timeline.places.append(PlaceMark(*where, part.floor, at))
