"""Put the parts of one process together: from settings to parts that are connected."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import asyncpg
import pydantic

from compose.process.health import Application, HealthOnly, loss_probe, shadow_probe, worker_probe
from compose.process.metrics import process_metrics
from compose.process.orphaned_logs import OrphanedLogDrainer
from compose.process.read_only import watched
from compose.process.reconnecting import ReconnectingTransport
from compose.process.role import Role
from compose.process.transports import Logs, open_logs, role_of
from compose.settings import Settings, otel_variables
from ingress.app import build
from ingress.readiness import Probe
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.monitor import ParityMonitor
from migration_guide.service import MigrationService
from otel.losses import Losses
from otel.metrics import Metrics
from otel.tracing.start import Tracing
from otel.tracing.start import start as start_tracing
from persistence.database.pool import Pool, connect
from persistence.dead_letters.depth_reporter import DepthReporter
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.housekeeping import Housekeeper
from persistence.standby.standby import Standby
from persistence.worker.worker import Worker
from transport.contract import Transport
from transport.registry import create
from transport.shadow import Mirror

__all__ = ["PRIVATE_ERRORS", "Service", "service"]

_C = TypeVar("_C", Worker, Standby, DeadLetterIndexer)

# Their texts may quote what a client sent: logs say that they happened, not what they say.
PRIVATE_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    pydantic.ValidationError,
    UnicodeError,
)


@dataclass(frozen=True)
class Service:
    """The parts of one process, connected where their servers are up, and not yet running.

    ``member`` is the process's name in the groups and among the processes.
    """

    member: str
    pool: Pool
    app: Application
    metrics: Metrics
    transports: list[ReconnectingTransport]
    consumed: Transport
    mirror: Mirror | None
    worker: Worker | None
    standbys: list[Standby]
    leftovers: OrphanedLogDrainer | None
    indexers: list[DeadLetterIndexer]
    depth: DepthReporter
    parity: ParityMonitor | None
    housekeeper: Housekeeper
    losses: Losses


@asynccontextmanager
async def service(settings: Settings, role: Role) -> AsyncIterator[Service]:
    """Make the parts; close them, last made first, when the block ends.

    Raises:
        ConfigurationError: a setting can't work against the servers that are there.
    """
    metrics, losses = process_metrics(), Losses()
    member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    async with AsyncExitStack() as stack:
        pool = await connect(settings.persistence)
        stack.push_async_callback(_close, pool)
        tracing = start_tracing(
            settings.tracing, settings.transport, metrics.registry, environment=otel_variables()
        )
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        logs = await stack.enter_async_context(
            open_logs(
                settings.transport, pool=pool, metrics=metrics, member=member, tracing=tracing
            )
        )
        consumers = _Consumers(None, [], None, [])
        if role is Role.WORKER or settings.persistence.enable_stream_consumers:
            consumers = _consumers(
                settings, logs, pool, metrics=metrics, member=member, tracing=tracing
            )
        worker, standbys, leftovers, indexers = consumers
        probe = worker_probe(worker, standbys, required=role is Role.WORKER) if worker else None
        if role is Role.WORKER and probe:
            app: Application = HealthOnly(
                transport=logs.consumed,
                pool=pool,
                settings=settings.ingress,
                worker=probe,
                metrics=metrics,
                probes=[loss_probe(losses)],
            )
        else:
            app = build(
                settings=settings.ingress,
                transport=logs.written,
                pool=pool,
                metrics=metrics,
                worker=probe,
                consumed=logs.consumed,
                probes=[*_probes(settings, logs), loss_probe(losses)],
                tracer=tracing.requests,
                logs=watched(settings.transport, logs.every),
                seen_by=member,
                migration=MigrationService(
                    pool, settings.transport, trace_url=settings.ingress.ingress_trace_url
                ),
            )
        depth = DepthReporter(pool, logs.every, metrics)
        housekeeper = Housekeeper(pool, days=settings.persistence.database_history_days)
        parity = _parity(settings, pool, metrics, member) if worker else None
        yield Service(
            member, pool, app, metrics, logs.every, logs.consumed, logs.mirror, worker, standbys,
            leftovers, indexers, depth, parity, housekeeper, losses,
        )  # fmt: skip


def _parity(settings: Settings, pool: Pool, metrics: Metrics, member: str) -> ParityMonitor | None:
    """Return what compares the two logs, where there are two. Not for processes that only ingest.

    Theirs is the latency that people feel.
    """
    ours = settings.transport
    if ours.transport_shadow is None:
        return None
    return ParityMonitor(
        lambda name: create(name, ours),
        primary=ours.transport,
        shadow=ours.transport_shadow,
        pool=pool,
        metrics=metrics,
        member=member,
        limits=ParityLimits(settle=ours.transport_shadow_settle_ms / 1000),
    )


def _probes(settings: Settings, logs: Logs) -> list[Probe]:
    if logs.mirror is None:
        return []
    timeout = settings.ingress.ingress_health_timeout_ms / 1000
    return [shadow_probe(logs.mirror, timeout_seconds=timeout)]


class _Consumers(NamedTuple):
    worker: Worker | None
    standbys: list[Standby]
    leftovers: OrphanedLogDrainer | None
    indexers: list[DeadLetterIndexer]


def _consumers(
    settings: Settings,
    logs: Logs,
    pool: Pool,
    *,
    metrics: Metrics,
    member: str,
    tracing: Tracing,
) -> _Consumers:
    """Return the worker, on the log that is consumed, and what the other logs need.

    That is a standby on each, something that looks after logs used elsewhere or before, and on
    every log what indexes its dead letters.
    """

    def consumer(kind: Callable[..., _C], transport: Transport, **more: Any) -> _C:
        return kind(
            transport=transport,
            pool=pool,
            settings=settings.persistence,
            metrics=metrics,
            member=member,
            **more,
        )

    by_name = {one.name: one for one in logs.every}
    return _Consumers(
        consumer(Worker, logs.consumed, deliveries=tracing.deliveries),
        [
            consumer(
                Standby,
                one,
                role=role_of(one.name, settings.transport),
                logs=by_name,
                deliveries=tracing.deliveries,
            )
            for one in logs.every
            if one.name != logs.consumed.name
        ],
        OrphanedLogDrainer(
            settings,
            by_name,
            pool=pool,
            metrics=metrics,
            member=member,
            deliveries=tracing.deliveries,
        ),
        [consumer(DeadLetterIndexer, one) for one in logs.every],
    )


async def _close(pool: Pool) -> None:
    # Everybody who used it has ended: what is still busy hangs on a server that does not answer.
    pool.terminate()
