"""The worker of a process: takes its share of the partitions and persists their records.

Any number of processes share the partitions; the transport gives each partition to one of them. The
work on a partition is in ``persistence.worker.partition_worker``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog

from otel.metrics import Metrics
from otel.tracing.deliveries import Deliveries
from otel.tracing.start import OFF
from persistence.database.outage import (
    Paused,
    Stopping,
    database_barrier,
    log_barrier,
    stopped_within,
)
from persistence.database.pool import Pool
from persistence.errors import Crowded
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.store.group_writer import GroupWriter
from persistence.store.writer import Writer
from persistence.worker.batch.attempt_log import AttemptLog
from persistence.worker.batch.contents import Contents
from persistence.worker.batch.worker_metrics import WorkerMetrics
from persistence.worker.claims import Claims
from persistence.worker.partition_worker import PartitionWorker
from persistence.worker.recovery.positions import Positions
from persistence.worker.worker_context import WorkerContext
from transport.contract import WORKER_GROUP, Claim, Transport

__all__ = ["Worker", "WorkerStatus", "worker_context"]

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.5
_CROWDED_SECONDS = 5.0
"""Outages of all processes often end sooner; no partition should move because of those."""


class WorkerStatus(msgspec.Struct, frozen=True):
    """The partitions that this process owns, and the dependencies that it waits for.

    ``epochs`` are the fencing epochs of its partitions. ``surplus`` are the partitions beyond the
    number that is configured: their records are persisted, but their lag is not counted.
    """

    partitions: list[int]
    paused: list[Paused]
    epochs: dict[int, int]
    surplus: list[int] = []


class Worker:
    """Consumes the messages log with the workers' consumer group. ``member`` names this process."""

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
        self._context = worker_context(
            transport, pool, settings, metrics, member, deliveries=deliveries, payloads=payloads
        )
        self._claims = Claims(
            transport,
            group=WORKER_GROUP,
            member=member,
            log_barrier=self._context.log_barrier,
            metrics=metrics,
            serve=self._serve,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then finish the batches in hand and hand back the rest.

        While PostgreSQL has no connection left for this process, it leaves the partitions to
        others.
        """
        database = self._context.database_barrier
        while not stop.is_set():
            leave = asyncio.Event()
            watching = asyncio.create_task(self._watch(stop, leave))
            try:
                await self._claims.run(leave)
            finally:
                watching.cancel()
                await asyncio.wait([watching])
            if not stop.is_set():
                _log.warning(
                    "No connection to PostgreSQL is left for this process: its partitions are "
                    "given up to processes that have one",
                    remedy="raise max_connections, or lower DATABASE_POOL_SIZE",
                )
                with suppress(Stopping):
                    await database.hold(Crowded("no connection is left for this process"), stop)
        self._context.metrics.tell()

    async def _watch(self, stop: asyncio.Event, leave: asyncio.Event) -> None:
        """Set ``leave`` once ``stop`` is set, or no connection could be had for a while."""
        while not await stopped_within(stop, _LOOK_SECONDS):
            if self._context.database_barrier.waited_for(Crowded) > _CROWDED_SECONDS:
                break
        leave.set()

    async def has_partitions(self, within: float) -> None:
        """Return once this process has partitions; at the latest after ``within`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._claims.arrived.wait()

    def unwritten(self) -> str | None:
        """Return the reason why PostgreSQL takes no rows; ``None`` while it does."""
        paused = self._context.database_barrier.paused()
        return paused.error if paused else None

    def status(self) -> WorkerStatus:
        """Return the partitions that this process owns, and its waits."""
        context = self._context
        barriers = (context.log_barrier, context.database_barrier, context.contents.barrier)
        waiting = [paused for barrier in barriers if (paused := barrier.paused())]
        waiting += context.positions.paused()
        owned = self._claims.owned()
        surplus = sorted(p for p in owned if p >= self._context.transport.partitions)
        return WorkerStatus(sorted(owned), waiting + self._claims.paused(), owned, surplus)

    async def _serve(self, claim: Claim, stop: asyncio.Event) -> None:
        await PartitionWorker(claim, self._context, stop).run()


def worker_context(
    transport: Transport,
    pool: Pool,
    settings: PersistenceSettings,
    metrics: Metrics,
    member: str,
    *,
    deliveries: Deliveries = OFF.deliveries,
    label: str | None = None,
    payloads: PayloadStore | None = None,
) -> WorkerContext:
    """Make the dependencies that one process's partition workers on one log share.

    ``label`` is the log's name in ``stream_worker_paused`` while workers wait for it. ``payloads``
    is the store of large content.
    """
    writer = Writer(pool)
    poll = settings.stream_poll_interval_ms / 1000
    return WorkerContext(
        transport=transport,
        writer=writer,
        group_writer=GroupWriter(
            writer,
            most_rows=settings.stream_batch_size,
            # Half of the pool: more at once insert no faster (measured), and the ingress runs its
            # queries over the same pool.
            slots=max(1, settings.database_pool_size // 2),
        ),
        log_barrier=log_barrier(transport, metrics, longest=poll, label=label),
        database_barrier=database_barrier(writer.probe, metrics, longest=poll),
        metrics=WorkerMetrics(metrics),
        member=member,
        attempts=settings.stream_max_retries,
        batch_size=settings.stream_batch_size,
        poll=poll,
        failures=AttemptLog(pool, member),
        deliveries=deliveries,
        contents=Contents(
            payloads,
            metrics,
            attempts=settings.stream_max_retries,
            longest=poll,
            label=f"payload store of {label}" if label else None,
        ),
        positions=Positions(transport, metrics),
    )
