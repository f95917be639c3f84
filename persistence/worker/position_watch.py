"""Check that the positions of idle partitions are where their readers left them.

A reader that writes learns it from its statement. While it waits for records, PostgreSQL may go
back to an earlier state, the log may lose its end, or its address may lead to another log. One
query to each, for all idle partitions of the process, shows that. Positions that are as they were
are shown to the log's tools again. Another query shows whether the chain has changed, and whether
its next link may be opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from persistence.database.outage import Stopping, stopped_within
from persistence.store.positions import KnownPosition
from persistence.worker.log_bounds import LogBounds
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.position_publisher import PositionPublisher
from persistence.worker.worker_context import WorkerContext

__all__ = ["PositionWatch", "Watched"]

_log = structlog.get_logger(__name__)


class Watched(Protocol):
    """What reads a partition."""

    position: PartitionPosition

    @property
    def waits_at(self) -> str | None:
        """The position while it is idle, else ``None``."""


class PositionWatch:
    """Checks the positions of ``readers`` (by partition) each ``context.poll`` seconds."""

    def __init__(
        self,
        context: WorkerContext,
        bounds: LogBounds,
        publisher: PositionPublisher,
        readers: Mapping[int, Watched],
    ) -> None:
        self._context = context
        self._bounds = bounds
        self._publisher = publisher
        self._readers = readers

    async def run(self, stop: asyncio.Event) -> None:
        """Check until ``stop`` is set."""
        while not await stopped_within(stop, self._context.poll):
            try:
                await self._check(stop)
            except Stopping:
                return
            except Exception:  # noqa: BLE001 - the partitions in use do not need this check
                _log.exception("Positions of idle partitions not checked; will retry")

    async def _check(self, stop: asyncio.Event) -> None:
        context = self._context
        await context.database_barrier.run(context.chain.load, stop)
        log = await context.log_barrier.run(context.transport.identity, stop)
        await context.database_barrier.run(
            lambda: context.chain.open_after(context.transport, log), stop
        )
        idle = {
            partition: (reader, reader.waits_at)
            for partition, reader in self._readers.items()
            if reader.waits_at is not None
        }
        if not idle:
            return
        at = {partition: through for partition, (_, through) in idle.items()}
        short = await context.log_barrier.run(lambda: self._bounds.ends_before(at), stop)
        found = await context.database_barrier.run(
            lambda: context.writer.positions(context.transport.name, list(at)), stop
        )
        for partition, (reader, through) in idle.items():
            if reader.waits_at != through:
                continue  # it has worked meanwhile
            if found.get(partition) != KnownPosition(through, log) or partition in short:
                reader.position.open_again()
            else:
                self._publisher.settled(partition, through)
