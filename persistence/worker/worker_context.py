"""Dependencies that all partition workers of one log share."""

from __future__ import annotations

import msgspec

from otel.tracing.deliveries import Deliveries
from persistence.database.outage import OutageBarrier
from persistence.store.group_writer import GroupWriter
from persistence.store.writer import Writer
from persistence.worker.batch.attempt_log import AttemptLog
from persistence.worker.batch.contents import Contents
from persistence.worker.batch.worker_metrics import WorkerMetrics
from persistence.worker.recovery.positions import Positions
from transport.contract import Transport

__all__ = ["WorkerContext"]


class WorkerContext(msgspec.Struct, frozen=True):
    """The dependencies of one log in one process. ``poll`` is the longest idle wait (seconds)."""

    transport: Transport
    writer: Writer
    group_writer: GroupWriter
    log_barrier: OutageBarrier
    database_barrier: OutageBarrier
    metrics: WorkerMetrics
    member: str
    attempts: int
    batch_size: int
    poll: float
    failures: AttemptLog
    deliveries: Deliveries
    contents: Contents
    positions: Positions
