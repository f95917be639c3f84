"""The worker of a process: takes its share of a log's partitions, and persists their records.

The work on a partition is in ``persistence.worker.partition_reader``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog

from otel.metrics import Metrics
from otel.tracing.deliveries import Deliveries
from otel.tracing.start import OFF
from persistence.database.outage import Paused, Stopping, stopped_within
from persistence.database.pool import Pool
from persistence.errors import Crowded
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.worker.log_reader import LogReader
from persistence.worker.partition_reader import PartitionReader
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
    persisted, but their lag is not counted.
    """

    partitions: list[int]
    paused: list[Paused]
    epochs: dict[int, int] | None
    surplus: list[int] = []


class Worker:
    """Persists the messages of one log. ``member`` names this process, as in its heartbeat."""

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
    ) -> None:
        self._context = context = worker_context(
            transport, pool, settings, metrics, member, deliveries=deliveries, payloads=payloads
        )
        self._reader = LogReader(
            context,
            pool,
            metrics,
            lambda position, leave: PartitionReader(position, context, leave),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then finish the batches in hand, and give back the rest.

        While PostgreSQL has no connection left for this process, it leaves the partitions to
        others.
        """
        while not stop.is_set():
            leave = asyncio.Event()
            watching = asyncio.create_task(self._watch(stop, leave))
            try:
                await self._reader.run(leave)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
            if not stop.is_set():
                await self._wait_for_a_connection(stop)
        self._context.metrics.tell()

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

    async def has_partitions(self, within: float) -> None:
        """Return once this process has partitions; at the latest after ``within`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._reader.arrived.wait()

    def unwritten(self) -> str | None:
        """Return the reason why PostgreSQL takes no rows; ``None`` while it does."""
        paused = self._context.database_barrier.paused()
        return paused.error if paused else None

    def status(self) -> WorkerStatus:
        """Return the partitions that this process owns, and its waits."""
        owned = self._reader.owned()
        partitions = sorted(owned or ())
        surplus = [p for p in partitions if p >= self._context.transport.partitions]
        return WorkerStatus(partitions, self._reader.paused(), owned, surplus)
