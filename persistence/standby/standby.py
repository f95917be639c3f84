"""The standby of a process: keeps the workers' position in a log that is not consumed.

It is a member of the workers' own group. It persists nothing. It acknowledges, in order, each
record whose message is settled, because the workers persist messages from the log that *is*
consumed. So a worker can start at the group's position in this log at any time. This makes every
change of ``CONSUME_FROM`` safe and instant, and settled records can be trimmed.

``persistence.standby.partition_standby`` has the work on a partition, and
``persistence.standby.takeover_rules`` the exceptions in which a standby persists a record. Why
order survives: ``docs/order.md``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from otel.metrics import Metrics
from otel.tracing.deliveries import Deliveries
from otel.tracing.start import OFF
from persistence.database.outage import Paused
from persistence.database.pool import Pool
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.standby.metrics import StandbyMetrics
from persistence.standby.other_readers import OtherReaders
from persistence.standby.partition_standby import PartitionStandby, StandbyContext
from persistence.standby.restores import Restores
from persistence.standby.settled_query import LULL_SECONDS, SettlementQuery
from persistence.standby.takeover_rules import LogRole, Originals, TakeoverReason
from persistence.worker.claims import Claims
from persistence.worker.worker import worker_context
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, Claim, Record, Transport
from transport.shadow.origin import origin_of

__all__ = ["PATIENCE_SECONDS", "Standby", "StandbyStatus", "WaitingPartition"]

PATIENCE_SECONDS = 2.0
"""After this time, an unsettled first record counts as stalled."""
_TELL_SECONDS = 0.5


class WaitingPartition(msgspec.Struct, frozen=True):
    """A partition that waits too long for its next record. ``since`` is RFC 3339."""

    partition: int
    offset: str
    since: str
    reason: str


class StandbyStatus(msgspec.Struct, frozen=True):
    """The status of a standby.

    ``epochs`` are the fencing epochs of its partitions. ``positions`` are the offsets through which
    this owner acknowledged (absent: none yet). ``stalled`` are the records that it waits for too
    long, ``paused`` the dependencies that it waits for.
    """

    transport: str
    epochs: dict[int, int]
    positions: dict[int, str]
    stalled: list[WaitingPartition]
    paused: list[Paused]

    def summary(self) -> dict[str, Any]:
        """Return the status as JSON-ready data, with partition numbers as text."""
        summary: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("epochs", "positions"):
            summary[name] = {str(partition): value for partition, value in summary[name].items()}
        return summary


class Standby:
    """Keeps the workers' position in ``transport``, a log that this process doesn't consume.

    ``role`` is the log's role in this process, ``logs`` are all logs that it has open, by name.
    ``member`` names this process, as for its worker. ``patience`` is in seconds.
    """

    def __init__(  # noqa: PLR0913 - a worker's, and its own three
        self,
        *,
        transport: Transport,
        pool: Pool,
        settings: PersistenceSettings,
        metrics: Metrics,
        member: str,
        role: LogRole,
        logs: Mapping[str, Transport],
        patience: float = PATIENCE_SECONDS,
        deliveries: Deliveries = OFF.deliveries,
        payloads: PayloadStore | None = None,
    ) -> None:
        self.transport = transport
        counts = metrics.of(StandbyMetrics)
        # A label of its own: the log that the worker consumes may be well.
        worker = worker_context(
            transport,
            pool,
            settings,
            metrics,
            member,
            deliveries=deliveries,
            label=f"standby {transport.name}",
            payloads=payloads,
        )
        others = [log for name, log in logs.items() if name != transport.name]
        self._context = StandbyContext(
            worker=worker,
            role=role,
            originals=Originals(logs),
            restores=Restores(transport, others, worker.writer, worker.database_barrier),
            readers=OtherReaders(pool, transport.name),
            patience=patience,
            query=SettlementQuery(pool, transport.name),
            acknowledged=counts.acknowledged.labels(transport.name),
            taken_over=counts.taken_over,
        )
        for why in TakeoverReason:
            counts.taken_over.labels(transport.name, why.value)
        self._partitions: dict[int, PartitionStandby] = {}
        counts.stalled.labels(transport.name).set_function(
            lambda: sum(standby.stalled for standby in list(self._partitions.values()))
        )
        self._claims = Claims(
            transport,
            group=WORKER_GROUP,
            member=member,
            log_barrier=self._context.worker.log_barrier,
            metrics=metrics,
            serve=self._serve,
            linger=LULL_SECONDS,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the position until ``stop`` is set; then hand the partitions back."""
        await self._claims.run(stop)
        self._context.worker.metrics.tell()

    async def others_read(self) -> bool:
        """Return whether other processes have workers on this log.

        ``False`` also if that is not known within half a second.
        """
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                return await self._context.readers.are_there()
        except TimeoutError:
            return False

    def status(self) -> StandbyStatus:
        """Return the partitions that this process keeps, and its waits."""
        worker = self._context.worker
        barriers = (worker.log_barrier, worker.database_barrier, worker.contents.barrier)
        paused = [paused for barrier in barriers if (paused := barrier.paused())]
        standbys = sorted(self._partitions.items())
        return StandbyStatus(
            transport=self.transport.name,
            epochs=self._claims.owned(),
            positions={p: standby.position for p, standby in standbys if standby.position},
            stalled=[self._waits(p, standby) for p, standby in standbys if standby.stalled],
            paused=paused + self._claims.paused(),
        )

    def waiting(self) -> list[WaitingPartition]:
        """Return the record that each partition waits for, even if it has only begun to wait."""
        standbys = sorted(self._partitions.items())
        return [self._waits(p, standby) for p, standby in standbys if standby.first is not None]

    def _waits(self, partition: int, standby: PartitionStandby) -> WaitingPartition:
        assert standby.first is not None
        since = timestamp(time.time() - (time.monotonic() - standby.since))
        return WaitingPartition(partition, standby.first.offset, since, _reason(standby.first))

    async def _serve(self, claim: Claim, stop: asyncio.Event) -> None:
        standby = PartitionStandby(claim, self._context, stop)
        self._partitions[claim.partition] = standby
        try:
            await standby.run()
        finally:
            if self._partitions.get(claim.partition) is standby:
                del self._partitions[claim.partition]


def _reason(record: Record) -> str:
    origin = origin_of(record)
    if origin is None:
        return "its message is not persisted, and this log is not consumed"
    return (
        f"its message is not persisted; the workers have it before them in {origin.transport}, "
        f"at {origin.offset}"
    )
