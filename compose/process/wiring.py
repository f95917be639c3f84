"""Makes the parts of one process from its settings, and connects them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import pydantic

from compose.process.certificate_ends import CertificateEnds
from compose.process.context import ProcessContext
from compose.process.health import (
    Application,
    HealthOnly,
    loss_probe,
    payload_probe,
    reads_probe,
    shadow_probe,
    worker_probe,
)
from compose.process.logs.altered_logs import AlteredLogs
from compose.process.logs.log_ends import LogEnds
from compose.process.logs.log_identities import LogIdentities
from compose.process.logs.orphaned_logs import OrphanedLogDrainer
from compose.process.logs.primaries import primary_probes
from compose.process.logs.read_only import watched
from compose.process.logs.transports import Logs, open_logs, written_by
from compose.process.metrics import process_metrics
from compose.process.payload_gate import PayloadGate
from compose.process.payload_identity import PayloadIdentity
from compose.process.role import Role
from compose.settings import Settings, otel_variables
from ingress.app import Ingress
from ingress.build import build
from ingress.readiness import Probe
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.monitor import ParityMonitor
from migration_guide.service import MigrationService
from otel.tracing.start import start as start_tracing
from persistence.chain.kept_rows import KeptRows
from persistence.database.pool import Pool, connect, connect_reads, using
from persistence.database.read_pool import ReadPool
from persistence.dead_letters.depth_reporter import DepthReporter
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.errors import PersistenceError, UnfitDatabase
from persistence.fleet.retired_logs import must_not_be_retired
from persistence.housekeeping import Housekeeper
from persistence.payloads.opening import open_archive, open_store
from persistence.retention.archiver import Archiver, OldRows
from persistence.worker.log_follower import LogFollower
from persistence.worker.worker import Worker
from transport.errors import ConfigurationError
from transport.registry import create

__all__ = ["PRIVATE_ERRORS", "Consumers", "Service", "service"]

# The texts of these errors may quote a client's message, so they are left out of the logs.
PRIVATE_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    pydantic.ValidationError,
    UnicodeError,
)

_FIT_WITHIN = 3.0  # seconds; checking a pooler takes several queries
_WITHIN = 1.0  # seconds for a query to PostgreSQL before the logs are connected


@dataclass(frozen=True)
class Consumers:
    """Readers of the logs: the worker reads the consumed log, the others read the rest."""

    worker: Worker
    followers: list[LogFollower]
    drainer: OrphanedLogDrainer
    indexers: list[DeadLetterIndexer]


@dataclass(frozen=True)
class Service:
    """The parts of one process, not yet running; those whose servers are up are connected.

    A process that only ingests has no ``consumers``.
    """

    context: ProcessContext
    logs: Logs
    identities: LogIdentities
    altered: AlteredLogs
    ends: LogEnds
    certificates: CertificateEnds
    consumers: Consumers | None
    app: Application
    depth: DepthReporter
    housekeeper: Housekeeper
    old_rows: OldRows | None
    parity: ParityMonitor | None
    payload_gate: PayloadGate | None
    payload_identity: PayloadIdentity | None


@asynccontextmanager
async def service(settings: Settings, role: Role) -> AsyncIterator[Service]:
    """Make the parts; close them in reverse order when the block ends.

    Raises:
        ConfigurationError: a setting can't work with the servers at its addresses.
    """
    async with AsyncExitStack() as stack:
        context = await _context(settings, stack)
        await _look_for_retired(context, role)
        logs = await stack.enter_async_context(open_logs(context))
        identities = LogIdentities(logs.every, context.metrics, context.settings.transport.others)
        altered = AlteredLogs(
            logs.every, context.metrics, timeout_seconds=_health_timeout(context.settings)
        )
        consumers = None
        if role is Role.WORKER or settings.persistence.enable_stream_consumers:
            consumers = _consumers(context, logs)
        of_logs = [identities.probe, *altered.probes(), *primary_probes(logs.every)]
        app = _application(context, role, logs, of_logs, consumers)
        uploads = app.accept.uploads if isinstance(app, Ingress) else None
        yield Service(
            context=context,
            logs=logs,
            identities=identities,
            altered=altered,
            ends=LogEnds(context.pool, logs.every),
            certificates=CertificateEnds(
                [log.name for log in logs.every],
                settings.transport,
                settings.persistence,
                context.metrics,
            ),
            consumers=consumers,
            app=app,
            depth=DepthReporter(context.pool, logs.every, context.metrics),
            housekeeper=Housekeeper(context.pool),
            old_rows=_old_rows(context) if consumers else None,
            parity=_parity(context) if consumers else None,
            payload_gate=PayloadGate(context.pool, context.payloads, uploads, member=context.member)
            if context.payloads
            else None,
            payload_identity=PayloadIdentity(context.pool, context.payloads)
            if context.payloads
            else None,
        )


async def _context(settings: Settings, stack: AsyncExitStack) -> ProcessContext:
    """Connect to the database and start tracing; ``stack`` closes both."""
    metrics = process_metrics()
    pool = await connect(settings.persistence)
    stack.push_async_callback(_close, pool)
    await _must_be_fit(pool)
    tracing = start_tracing(
        settings.tracing, settings.transport, metrics.registry, environment=otel_variables()
    )
    stack.push_async_callback(asyncio.to_thread, tracing.close)
    member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    payloads = open_store(settings.payloads, metrics)
    reads = await connect_reads(settings.persistence)
    if reads is not None:
        stack.push_async_callback(_close, reads)
    archive = open_archive(settings.persistence.rows_archive_url, settings.payloads, metrics)
    return ProcessContext(
        settings,
        pool,
        metrics,
        member,
        tracing,
        payloads=payloads,
        reads=ReadPool(reads, pool) if reads is not None else None,
        archive=archive,
    )


async def _must_be_fit(pool: Pool) -> None:
    """Refuse a database that can't be used as it is; pass one that is down, which may be fine.

    Raises:
        ConfigurationError: the database lacks a property that is needed; the text has the remedy.
    """
    try:
        async with asyncio.timeout(_FIT_WITHIN), using(pool):
            pass
    except UnfitDatabase as error:
        raise ConfigurationError(str(error)) from error
    except (PersistenceError, TimeoutError):
        return  # the database's users wait for it, and report the outage


async def _look_for_retired(context: ProcessContext, role: Role) -> None:
    """Refuse to start with a log that was retired: connecting would create it anew.

    Raises:
        ConfigurationError: a log that this process writes or consumes was retired.
    """
    with suppress(PersistenceError):  # the first heartbeat checks again
        names = written_by(role, context.settings.transport)
        await must_not_be_retired(context.pool, names, within=_WITHIN)


def _consumers(context: ProcessContext, logs: Logs) -> Consumers:
    """Return the readers of a process that consumes.

    They are a worker on the consumed log, a follower of each other log, the drainer of orphaned
    logs, and an indexer of dead letters for every log.
    """
    return Consumers(
        worker=context.worker(logs.consumed),
        followers=[context.follower(log) for log in logs.every if log.name != logs.consumed.name],
        drainer=OrphanedLogDrainer(context, [log.name for log in logs.every]),
        indexers=[context.indexer(log) for log in logs.every],
    )


def _application(
    context: ProcessContext,
    role: Role,
    logs: Logs,
    of_logs: Sequence[Probe],
    consumers: Consumers | None,
) -> Application:
    """Return the API; for a worker process, the application with its health only."""
    settings, probe = context.settings, None
    timeout = _health_timeout(settings)
    always = [loss_probe(context.losses), *of_logs]
    if context.payloads is not None:
        always.append(payload_probe(context.payloads, timeout_seconds=timeout))
    if context.reads is not None and role is not Role.WORKER:
        always.append(reads_probe(context.reads, timeout_seconds=timeout))
    if consumers:
        required = role is Role.WORKER
        probe = worker_probe(consumers.worker, consumers.followers, required=required)
        if required:
            return HealthOnly(
                context,
                transport=logs.consumed,
                worker=probe,
                probes=always,
                unwritten=consumers.worker.unwritten,
            )
    return build(
        settings=settings.ingress,
        transport=logs.written,
        pool=context.pool,
        metrics=context.metrics,
        worker=probe,
        consumed=logs.consumed,
        probes=[*_probes(settings, logs), *always],
        tracer=context.tracing.requests,
        logs=watched(settings.transport, logs.every),
        seen_by=context.member,
        migration=MigrationService(
            context.pool, settings.transport, trace_url=settings.ingress.ingress_trace_url
        ),
        payloads=context.payloads,
        reads=context.reads,
        tried=logs.appends.tried,
        kept=KeptRows(
            context.chain,
            logs.every,
            mirrors=logs.mirror is not None
            and context.settings.transport.transport_shadow_mode == "sync",
        ),
        **({"unwritten": consumers.worker.unwritten} if consumers else {}),
    )


def _old_rows(context: ProcessContext) -> OldRows | None:
    """Return the archiver of old rows; ``None`` if the settings ask for none."""
    days, store = context.settings.persistence.rows_retention_days, context.archive
    if days is None or store is None:
        return None
    return OldRows(Archiver(context.pool, store, days=days), context.metrics)


def _parity(context: ProcessContext) -> ParityMonitor | None:
    """Return the parity monitor of primary and shadow; ``None`` without a shadow.

    A process that only ingests runs none: comparing would delay its answers.
    """
    ours = context.settings.transport
    if ours.transport_shadow is None:
        return None
    return ParityMonitor(
        lambda name: create(name, ours),
        primary=ours.transport,
        shadow=ours.transport_shadow,
        pool=context.pool,
        metrics=context.metrics,
        member=context.member,
        limits=ParityLimits(settle=ours.transport_shadow_settle_ms / 1000),
    )


def _probes(settings: Settings, logs: Logs) -> list[Probe]:
    if logs.mirror is None:
        return []
    return [shadow_probe(logs.mirror, timeout_seconds=_health_timeout(settings))]


def _health_timeout(settings: Settings) -> float:
    """Return how long a readiness check may wait for a server, in seconds."""
    return settings.ingress.ingress_health_timeout_ms / 1000


async def _close(pool: Pool) -> None:
    # The pool's users have ended: a connection that is still busy waits for a silent server.
    pool.terminate()
