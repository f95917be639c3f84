"""The follower of a process: moves the positions in a log that another log's workers precede.

It stays a little behind. Mostly it meets settled records, and moves the positions over them. It
persists what stays unsettled, where the chain allows that. So a worker can start at the positions
of this log at any time, which makes a change of ``CONSUME_FROM`` safe and instant, and settled
records can be trimmed.

``persistence.worker.partition_follower`` has the work on a partition. Why order survives:
``docs/order.md``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from otel.metrics import Metrics
from otel.tracing.deliveries import Deliveries
from otel.tracing.start import OFF
from persistence.chain.known_chain import KnownChain
from persistence.database.outage import Paused
from persistence.database.pool import Pool
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.worker.log_reader import LONG_SECONDS, LogReader
from persistence.worker.partition_follower import WaitingPartition
from persistence.worker.worker_context import worker_context
from transport.contract import Transport

__all__ = ["FollowerStatus", "LogFollower"]


class FollowerStatus(msgspec.Struct, frozen=True):
    """The status of a follower.

    ``epochs`` are the fencing epochs of its partitions; ``None`` while it takes no share of them.
    ``positions`` are the offsets through which its partitions are settled (absent: none yet).
    ``waiting`` are the records that it waits for, for some seconds already; ``paused`` the
    dependencies that it waits for.
    """

    transport: str
    epochs: dict[int, int] | None
    positions: dict[int, str]
    waiting: list[WaitingPartition]
    paused: list[Paused]

    def summary(self) -> dict[str, Any]:
        """Return the status as JSON-ready data, with partition numbers as text."""
        summary: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("epochs", "positions"):
            values = summary[name] or {}
            summary[name] = {str(partition): value for partition, value in values.items()}
        return summary


class LogFollower:
    """Follows ``transport``, a log that this process doesn't consume.

    ``member`` names this process, as for its worker, and ``chain`` is shared with it. For
    ``until_forgotten``, see ``PartitionOwner``.
    """

    def __init__(  # noqa: PLR0913 - a worker's, and its own
        self,
        *,
        transport: Transport,
        pool: Pool,
        settings: PersistenceSettings,
        metrics: Metrics,
        member: str,
        chain: KnownChain | None = None,
        deliveries: Deliveries = OFF.deliveries,
        payloads: PayloadStore | None = None,
        until_forgotten: bool = False,
    ) -> None:
        self.transport = transport
        self._context = worker_context(
            transport,
            pool,
            settings,
            metrics,
            member,
            chain=chain,
            deliveries=deliveries,
            # A label of its own: the log that the worker consumes may be well.
            label=f"follower {transport.name}",
            payloads=payloads,
        )
        self._reader = LogReader(
            self._context, pool, metrics, follows=True, until_forgotten=until_forgotten
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until ``stop`` is set; then hand the partitions back."""
        await self._reader.run(stop)
        self._context.metrics.tell()

    def status(self) -> FollowerStatus:
        """Return the partitions that this process follows, and its waits."""
        at = {p: reader.position.through for p, reader in sorted(self._reader.readers.items())}
        return FollowerStatus(
            transport=self.transport.name,
            epochs=self._reader.owned(),
            positions={partition: through for partition, through in at.items() if through},
            waiting=self._reader.waiting(longer_than=LONG_SECONDS),
            paused=self._reader.paused(),
        )

    def waiting(self) -> list[WaitingPartition]:
        """Return the record that each partition waits for, even if it has only begun to wait."""
        return self._reader.waiting()
