"""The standby of a process: keeps the position in a log that is not consumed near its end.

It persists nothing. It moves the position, in order, over each record whose message is settled,
because the workers persist messages from the log that *is* consumed. So a worker can start at the
position in this log at any time. This makes every change of ``CONSUME_FROM`` safe and instant, and
settled records can be trimmed.

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
from persistence.standby.settled_query import SettlementQuery
from persistence.standby.takeover_rules import LogRole, Originals, TakeoverReason
from persistence.worker.log_reader import LogReader
from persistence.worker.worker_context import worker_context
from transport.clock import timestamp
from transport.contract import Record, Transport
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

    ``epochs`` are the fencing epochs of its partitions; ``None`` while it takes no share of them.
    ``positions`` are the offsets through which its partitions are settled (absent: none yet).
    ``stalled`` are the records that it waits for too long, ``paused`` the dependencies that it
    waits for.
    """

    transport: str
    epochs: dict[int, int] | None
    positions: dict[int, str]
    stalled: list[WaitingPartition]
    paused: list[Paused]

    def summary(self) -> dict[str, Any]:
        """Return the status as JSON-ready data, with partition numbers as text."""
        summary: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("epochs", "positions"):
            values = summary[name] or {}
            summary[name] = {str(partition): value for partition, value in values.items()}
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
        until_forgotten: bool = False,
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
        self._context = StandbyContext(
            worker=worker,
            role=role,
            originals=Originals(logs, pool),
            readers=OtherReaders(pool, transport.name),
            patience=patience,
            query=SettlementQuery(pool, transport.name),
            settled=counts.settled.labels(transport.name),
            taken_over=counts.taken_over,
        )
        for why in TakeoverReason:
            counts.taken_over.labels(transport.name, why.value)
        self._reader = LogReader(
            worker,
            pool,
            metrics,
            lambda at, leave: PartitionStandby(at, self._context, leave),
            until_forgotten=until_forgotten,
        )
        counts.stalled.labels(transport.name).set_function(
            lambda: sum(standby.stalled for standby in list(self._reader.readers.values()))
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the position until ``stop`` is set; then hand the partitions back."""
        await self._reader.run(stop)
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
        standbys = sorted(self._reader.readers.items())
        return StandbyStatus(
            transport=self.transport.name,
            epochs=self._reader.owned(),
            positions={p: standby.through for p, standby in standbys if standby.through},
            stalled=[self._waits(p, standby) for p, standby in standbys if standby.stalled],
            paused=self._reader.paused(),
        )

    def waiting(self) -> list[WaitingPartition]:
        """Return the record that each partition waits for, even if it has only begun to wait."""
        standbys = sorted(self._reader.readers.items())
        return [self._waits(p, standby) for p, standby in standbys if standby.first is not None]

    def _waits(self, partition: int, standby: PartitionStandby) -> WaitingPartition:
        assert standby.first is not None
        since = timestamp(time.time() - (time.monotonic() - standby.since))
        return WaitingPartition(partition, standby.first.offset, since, _reason(standby.first))


def _reason(record: Record) -> str:
    origin = origin_of(record)
    if origin is None:
        return "its message is not persisted, and this log is not consumed"
    return (
        f"its message is not persisted; the workers have it before them in {origin.transport}, "
        f"at {origin.offset}"
    )
