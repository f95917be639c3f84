"""The worker of a process: takes its share of a log's partitions, and persists their records.

The work on a partition is in ``persistence.worker.partition_reader``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import msgspec
import structlog

from otel.metrics import Metrics
from otel.tracing.deliveries import Deliveries
from otel.tracing.start import OFF
from persistence.chain.known_chain import KnownChain
from persistence.database.outage import Paused, Stopping, stopped_within
from persistence.database.pool import Pool
from persistence.errors import Crowded
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.worker.log_reader import LONG_SECONDS, LogReader
from persistence.worker.partition_follower import WaitingPartition
from persistence.worker.worker_context import worker_context
from transport.contract import Transport

__all__ = ["Worker", "WorkerStatus"]

_log = structlog.get_logger(__name__)

_CHECK_SECONDS = 0.5
_CROWDED_SECONDS = 5.0
"""Outages of all processes often end sooner; no partition should move because of those."""


class WorkerStatus(msgspec.Struct, frozen=True):
    """The partitions that this process owns, and the dependencies that it waits for.

    ``epochs`` are the fencing epochs of its partitions; ``None`` while it takes no share of them.
    ``surplus`` are the partitions beyond the number that is configured: their records are
    persisted, but their lag is not counted. ``waiting`` are records that may not become rows yet,
    for some seconds already.
    """

    partitions: list[int]
    paused: list[Paused]
    epochs: dict[int, int] | None
    surplus: list[int] = []
    waiting: list[WaitingPartition] = []


class Worker:
    """Persists the messages of one log. ``member`` names this process, as in its heartbeat.

    Where the log is not in the chain yet, or not open, it only follows it. ``chain`` is shared by
    all logs of a process.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        pool: Pool,
        settings: PersistenceSettings,
        metrics: Metrics,
        member: str,
        deliveries: Deliveries = OFF.deliveries,
        payloads: PayloadStore | None = None,
        chain: KnownChain | None = None,
    ) -> None:
        self._context = worker_context(
            transport,
            pool,
            settings,
            metrics,
            member,
            chain=chain,
            deliveries=deliveries,
            payloads=payloads,
        )
        self._reader = LogReader(self._context, pool, metrics)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then finish the batches in hand, and give back the rest.

        While PostgreSQL has no connection left for this process, it leaves the partitions to
        others.
        """
        while not stop.is_set():
            leave = asyncio.Event()
            watching = asyncio.create_task(self._watch(stop, leave))
            try:
                await self._read(leave)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
            if not stop.is_set():
                await self._wait_for_a_connection(stop)
        self._context.metrics.tell()

    async def _read(self, leave: asyncio.Event) -> None:
        context = self._context
        with suppress(Stopping):
            await context.database_barrier.run(
                partial(context.chain.begin, context.transport.name), leave
            )
        await self._reader.run(leave)

    async def _watch(self, stop: asyncio.Event, leave: asyncio.Event) -> None:
        """Set ``leave`` once ``stop`` is set, or no connection could be had for a while."""
        while not await stopped_within(stop, _CHECK_SECONDS):
            if self._context.database_barrier.waited_for(Crowded) > _CROWDED_SECONDS:
                break
        leave.set()

    async def _wait_for_a_connection(self, stop: asyncio.Event) -> None:
        _log.warning(
            "No connection to PostgreSQL is left for this process: its partitions are given up to "
            "processes that have one",
            remedy="raise max_connections, or lower DATABASE_POOL_SIZE",
        )
        with suppress(Stopping):
            await self._context.database_barrier.hold(
                Crowded("no connection is left for this process"), stop
            )

    def unwritten(self) -> str | None:
        """Return the reason why PostgreSQL takes no rows; ``None`` while it does."""
        paused = self._context.database_barrier.paused()
        return paused.error if paused else None

    def status(self) -> WorkerStatus:
        """Return the partitions that this process owns, and its waits."""
        owned = self._reader.owned()
        partitions = sorted(owned or ())
        surplus = [p for p in partitions if p >= self._context.transport.partitions]
        waiting = self._reader.waiting(longer_than=LONG_SECONDS)
        return WorkerStatus(partitions, self._reader.paused(), owned, surplus, waiting)
