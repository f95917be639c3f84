"""Wait out an outage: one caller probes for all, and all go on at once when it is over.

An outage is not a poison message (promise 6): no record is dropped or dead-lettered, and no attempt
is the last. Code that meets an outage calls ``OutageBarrier.hold``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from otel.metrics import Metrics
from persistence.database.outage_lines import OutageLines
from persistence.errors import Outage, PersistenceError, Unexpected
from persistence.json_types import Time
from persistence.metrics import PersistenceMetrics
from transport.backoff import Backoff
from transport.clock import timestamp
from transport.contract import Transport
from transport.errors import (
    PartlyUnavailable,
    TransportError,
    Unwritable,
    one_line,
)

__all__ = [
    "OutageBarrier",
    "Paused",
    "Stopping",
    "database_barrier",
    "log_barrier",
    "stopped_within",
    "unless_stopped",
]

_T = TypeVar("_T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_PROBE_SECONDS = 5.0


class Stopping(Exception):  # noqa: N818 - a request, not a mistake
    """The process is asked to stop while it waits. Its records stay unacknowledged."""


class Paused(msgspec.Struct, frozen=True):
    """A dependency that a process waits for, with the time since when it waits."""

    dependency: str
    since: Time
    error: str
    """The last error, in one line."""


class OutageBarrier:
    """A barrier in front of one dependency: open while it works; otherwise ``hold`` waits.

    ``probe`` returns if the dependency works, and raises if it does not. ``outages`` are the errors
    that mean an outage, except ``verdicts``: waiting does not change those. ``backoff`` gives the
    pauses between two probes.
    """

    def __init__(
        self,
        dependency: str,
        probe: Callable[[], Awaitable[None]],
        metrics: Metrics,
        *,
        outages: type[Exception] = Exception,
        verdicts: type[Exception] | tuple[type[Exception], ...] = (),
        backoff: Backoff | None = None,
        label: str | None = None,
    ) -> None:
        self._dependency = dependency
        self._probe = probe
        self._backoff = backoff or _backoff(_LONGEST_PAUSE)
        self._lines = OutageLines(dependency, min(self._backoff.calm, _calm(_LONGEST_PAUSE)))
        self._waits_for = outages
        self._verdicts = verdicts
        counts = metrics.of(PersistenceMetrics)
        self._gauge = counts.paused.labels(label or dependency)
        self._errors = counts.processed.labels("error")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._outage = 0
        self._since: float | None = None
        self._closed = 0.0
        self._error = ""
        self._last: Exception | None = None

    def waited_for(self, kind: type[Exception]) -> float:
        """Return for how many seconds it has been closed with a last error of ``kind``; else 0."""
        if self._since is None or not isinstance(self._last, kind):
            return 0.0
        return time.monotonic() - self._closed

    @property
    def outages(self) -> int:
        """The number of outages so far, with the one under way."""
        return self._outage

    def paused(self) -> Paused | None:
        """Return since when callers wait for this dependency; ``None`` while it works."""
        if self._since is None:
            return None
        return Paused(self._dependency, timestamp(self._since), self._error)

    async def run(self, call: Callable[[], Awaitable[_T]], stop: asyncio.Event) -> _T:
        """Return the result of ``call``; after each outage it is called again, for ever.

        Raises:
            Stopping: ``stop`` was set during a wait.
            Exception: any other error of ``call``.
        """
        while True:
            try:
                return await call()
            except self._verdicts:
                raise
            except self._waits_for as error:
                await self.hold(error, stop)

    async def hold(self, error: Exception, stop: asyncio.Event) -> None:
        """Wait until the dependency works again, after it failed with ``error``.

        Raises:
            Stopping: ``stop`` was set first.
        """
        self._errors.inc()
        self._close(error)
        self._waiting += 1
        try:
            await self._wait(self._outage, stop)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._leave()

    async def _wait(self, outage: int, stop: asyncio.Event) -> None:
        # The first caller probes. The others queue here, and find the outage over or probe next.
        if await unless_stopped(stop, self._turn.acquire()) is None:
            raise Stopping
        try:
            while self._since is not None and self._outage == outage:
                if await stopped_within(stop, self._backoff.next()):
                    raise Stopping
                try:
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await self._probe()
                except (PersistenceError, TransportError, TimeoutError) as failure:
                    empty = f"no answer in {_PROBE_SECONDS:g} s"
                    self._error, self._last = one_line(failure, empty=empty), failure
                else:
                    self._open()
        finally:
            self._turn.release()

    def _close(self, error: Exception) -> None:
        self._error, self._last = one_line(error), error
        if self._since is not None:
            return
        self._outage += 1
        self._closed = time.monotonic()
        self._since = self._lines.begins(self._error)
        self._gauge.inc()

    def _open(self) -> None:
        self._since = None
        self._gauge.dec()
        self._lines.ends()

    def _leave(self) -> None:
        """End the pause if its last caller was stopped or cancelled: nobody probes any more."""
        if self._since is not None:
            self._since = None
            self._gauge.dec()
            self._lines.left()


async def unless_stopped(stop: asyncio.Event, call: Awaitable[_T]) -> _T | None:
    """Await ``call`` and return its result; once ``stop`` is set, cancel it and return ``None``."""
    working = asyncio.ensure_future(call)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            # Wait for its end: it must give back what it holds before the caller goes on.
            await asyncio.gather(working, return_exceptions=True)


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Return whether ``stop`` is set, waiting at most ``seconds`` for it."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def log_barrier(
    transport: Transport, metrics: Metrics, *, longest: float, label: str | None = None
) -> OutageBarrier:
    """Return the barrier in front of a log: all its errors are outages, except a lost partition.

    The barrier opens for a log that takes no appends: workers are what makes room in a full one.
    """

    async def probe() -> None:
        try:
            await transport.ping()
        except Unwritable:
            return
        except PartlyUnavailable as error:
            if not isinstance(error.__cause__, Unwritable):
                raise

    return OutageBarrier(
        transport.name,
        probe,
        metrics,
        outages=TransportError,
        backoff=_backoff(longest),
        label=label,
    )


def database_barrier(
    probe: Callable[[], Awaitable[None]], metrics: Metrics, *, longest: float
) -> OutageBarrier:
    """Return the barrier in front of PostgreSQL. Unexpected errors are not waited out here."""
    return OutageBarrier(
        "postgresql",
        probe,
        metrics,
        outages=Outage,
        verdicts=Unexpected,
        backoff=_backoff(longest),
    )


def _backoff(longest: float) -> Backoff:
    longest = min(longest, _LONGEST_PAUSE)
    # A probe can succeed while the work still fails: then the pauses still grow.
    return Backoff(_FIRST_PAUSE, longest, calm=_calm(longest))


def _calm(longest: float) -> float:
    return 2 * longest + _PROBE_SECONDS
