"""What all partitions of one log share in one process."""

from __future__ import annotations

import msgspec
from prometheus_client import Counter

from otel.metrics import Metrics
from otel.tracing.deliveries import Deliveries
from otel.tracing.start import OFF
from persistence.chain.known_chain import KnownChain
from persistence.database.outage import OutageBarrier, database_barrier, log_barrier
from persistence.database.pool import Pool
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from persistence.store.group_writer import GroupWriter
from persistence.store.writer import Writer
from persistence.worker.batch.attempt_log import AttemptLog
from persistence.worker.batch.contents import Contents
from persistence.worker.batch.worker_metrics import WorkerMetrics
from persistence.worker.position_metrics import PositionMetrics
from persistence.worker.settled_query import SettlementQuery
from transport.contract import Transport

__all__ = ["WorkerContext", "worker_context"]


class WorkerContext(msgspec.Struct, frozen=True):
    """The dependencies of one log in one process. ``poll`` is the longest idle wait (seconds)."""

    transport: Transport
    writer: Writer
    group_writer: GroupWriter
    chain: KnownChain
    query: SettlementQuery
    log_barrier: OutageBarrier
    database_barrier: OutageBarrier
    metrics: WorkerMetrics
    went_back: Counter
    member: str
    attempts: int
    batch_size: int
    poll: float
    failures: AttemptLog
    deliveries: Deliveries
    contents: Contents


def worker_context(  # noqa: PLR0913 - the dependencies of a process
    transport: Transport,
    pool: Pool,
    settings: PersistenceSettings,
    metrics: Metrics,
    member: str,
    *,
    chain: KnownChain | None = None,
    deliveries: Deliveries = OFF.deliveries,
    label: str | None = None,
    payloads: PayloadStore | None = None,
) -> WorkerContext:
    """Make the dependencies that one process's work on one log shares.

    ``chain`` is shared by all logs of a process. ``label`` is the log's name in
    ``stream_worker_paused`` while workers wait for it. ``payloads`` is the store of large content.
    """
    writer = Writer(pool)
    poll = settings.stream_poll_interval_ms / 1000
    return WorkerContext(
        transport=transport,
        writer=writer,
        chain=chain or KnownChain(pool),
        query=SettlementQuery(pool, transport.name),
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
        went_back=metrics.of(PositionMetrics).went_back.labels(transport.name),
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
    )
