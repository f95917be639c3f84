"""Builds the HTTP application of its parts. All routes that accept messages share them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from ingress.accept.admission import Admission
from ingress.accept.bodies import Bodies
from ingress.accept.commit import TickCommitter
from ingress.accept.context import AcceptContext
from ingress.accept.direct import Direct
from ingress.accept.group_commit import GroupCommit
from ingress.accept.intake import Intake
from ingress.accept.receipts import Receipts
from ingress.accept.recent_keys import RecentKeys
from ingress.accept.repeats import Repeats
from ingress.accept.row_lookup import RowLookup
from ingress.accept.unread_keys import UnreadKeys
from ingress.accept.uploads import Uploads
from ingress.app import Ingress
from ingress.console.build import console_of, watched
from ingress.console.health.alarms import alarms_probe
from ingress.console.health.stores import payloads_check, reads_check
from ingress.console.migration import MigrationActions
from ingress.console.readings import WatchedLog
from ingress.console.routes.routers import console_routers
from ingress.console.routes.state import ConsoleState
from ingress.messages import Messages
from ingress.metrics import IngressMetrics
from ingress.openapi import Documents
from ingress.openapi.docs_routes import docs_router
from ingress.readiness import Probe, ReadinessChecks, WorkerProbe
from ingress.routes import (
    content,
    conversations,
    dead_letters,
    error_handlers,
    jobs,
    redrives,
)
from ingress.routes import messages as message_routes
from ingress.routes import receipts as receipt_routes
from ingress.routes.health import health_router
from ingress.routes.problem_types import problem_types_router
from ingress.routes.root import root_router
from ingress.routes.state import RoutesState
from ingress.schema.requests import RequestLimits
from ingress.settings import IngressSettings
from ingress.web.auth import Authenticator
from ingress.web.browser import Guard
from ingress.web.hosts import Hosts
from otel.metrics import Metrics
from otel.tracing.requests import PassOn, Tracer
from persistence.chain.kept_rows import KeptRows
from persistence.database.pool import Pool
from persistence.database.read_pool import ReadPool
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.redrive import Redriver
from persistence.metrics import IdempotencyMetrics
from persistence.operator_actions import Actions
from persistence.payloads.store import PayloadStore
from persistence.store.writer import Writer
from transport.contract import Transport

__all__ = ["build"]


def build(  # noqa: PLR0913 - what a process gives its API, once
    *,
    settings: IngressSettings,
    transport: Transport,
    pool: Pool,
    metrics: Metrics,
    worker: WorkerProbe | None = None,
    consumed: Transport | None = None,
    probes: Sequence[Probe] = (),
    tracer: Tracer | None = None,
    logs: Sequence[WatchedLog] = (),
    seen_by: str = "this process",
    migration: MigrationActions | None = None,
    payloads: PayloadStore | None = None,
    unwritten: Callable[[], str | None] = lambda: None,
    reads: ReadPool | None = None,
    tried: Callable[[str | None], None] = lambda _: None,
    kept: KeptRows | None = None,
) -> Ingress:
    """Build the application. This starts no task and opens no connection.

    Args:
        settings: The ingress's settings.
        transport: The log that messages are appended to.
        pool: Connections to PostgreSQL.
        metrics: This process's metrics.
        worker: Returns the state of this process's workers, if it has any.
        consumed: The log that workers read, if it is not ``transport``.
        probes: Checks of further dependencies for ``/readyz``.
        tracer: Begins the trace of each request; by default clients' traces are passed on.
        logs: The logs that the console shows; by default ``transport`` and ``consumed``.
        seen_by: The name that the console gives this process.
        migration: The console's actions on the migration between logs.
        payloads: The store for large content; without one, all content is in the log.
        unwritten: Returns why PostgreSQL takes no rows from this process, or ``None``.
        reads: Connections for pages and the console's search; by default ``pool``.
        tried: Called by each readiness check with the reason why ``transport`` takes no writes, or
            with ``None``.
        kept: Decides which rows may answer repeats; by default all.

    Raises:
        ConfigurationError: The API keys, or the number of connections, can't be used.
    """
    read = consumed or transport
    accept = _accept_context(
        settings,
        transport=transport,
        read=read,
        pool=pool,
        metrics=metrics,
        tracer=tracer,
        payloads=payloads,
        kept=kept,
    )
    messages = Messages(
        transport=read,
        pool=pool,
        scan=settings.ingress_backlog_records,
        timeout_seconds=settings.ingress_read_timeout_ms / 1000,
    )
    state = _routes_state(
        settings,
        accept,
        messages=messages,
        redriver=Redriver(pool, transport, metrics),
        pool=pool,
        reads=reads.pool if reads else pool,
        payloads=payloads,
    )
    console = console_of(
        settings=settings,
        accept=accept,
        messages=messages,
        pool=pool,
        reads=state.reads,
        actions=state.actions,
        logs=list(logs) or watched(transport, read),
        seen_by=seen_by,
        checks=[
            *([payloads_check(payloads)] if payloads else []),
            *([reads_check(reads)] if reads else []),
        ],
        migration=migration,
    )
    timeout = settings.ingress_health_timeout_ms / 1000
    readiness = ReadinessChecks(
        transport=transport,
        pool=pool,
        needs=["database"] if settings.ingress_mode == "direct" else [],
        timeout_seconds=timeout,
        worker=worker,
        probes=[*probes, alarms_probe(console.sampler, timeout_seconds=timeout)],
        unwritten=unwritten,
        tried=tried,
    )
    api = _api(
        _routers(console, readiness),
        starting=_starting(accept, console),
        closing=_closing(accept, state.redriver, console),
    )
    api.state.auth = accept.auth
    api.state.console = console
    api.state.routes = state
    documents = Documents(
        api,
        settings=settings,
        keys_required=accept.auth.required,
        payload_bytes=payloads.settings.ingress_max_payload_bytes if payloads else None,
    )
    api.include_router(docs_router(documents))
    return Ingress(
        api,
        documents,
        accept,
        readiness,
        settings=settings,
        metrics=metrics,
        followed=(console.sampler, console.tail),
    )


def _routes_state(
    settings: IngressSettings,
    accept: AcceptContext,
    *,
    messages: Messages,
    redriver: Redriver,
    pool: Pool,
    reads: Pool,
    payloads: PayloadStore | None,
) -> RoutesState:
    timeout = settings.ingress_read_timeout_ms / 1000
    return RoutesState(
        messages=messages,
        commits=accept.commits,
        receipts=Receipts(
            commits=accept.commits, messages=messages, pool=pool, timeout_seconds=timeout
        ),
        letters=DeadLetters(pool),
        redriver=redriver,
        actions=Actions(pool),
        pool=pool,
        reads=reads,
        payloads=payloads,
        trace_url=settings.ingress_trace_url,
        timeout_seconds=timeout,
    )


def _routers(console: ConsoleState, readiness: ReadinessChecks) -> list[APIRouter]:
    return [
        message_routes.router,
        conversations.router,
        content.router,
        receipt_routes.router,
        # Before the routes of single dead letters, which would take "redrives" for an id.
        redrives.router,
        dead_letters.router,
        jobs.router,
        *console_routers(console),
        health_router(readiness),
        problem_types_router(),
        root_router(),
    ]


def _starting(accept: AcceptContext, console: ConsoleState) -> list[Callable[[], None]]:
    unread = [accept.unread_keys.start] if accept.unread_keys else []
    return [console.last_hour.start, accept.admission.start, *unread]


def _closing(
    accept: AcceptContext, redriver: Redriver, console: ConsoleState
) -> list[Callable[[], Awaitable[None]]]:
    """Return the closing calls in order: a part closes after those that hand messages to it."""
    uploads = [accept.uploads.close] if accept.uploads else []
    unread = [accept.unread_keys.close] if accept.unread_keys else []
    return [
        accept.admission.close,
        *unread,
        *uploads,
        accept.commits.close,
        redriver.close,
        accept.row_lookup.close,
        console.sampler.close,
        console.tail.close,
        console.last_hour.close,
    ]


def _accept_context(
    settings: IngressSettings,
    *,
    transport: Transport,
    read: Transport,
    pool: Pool,
    metrics: Metrics,
    tracer: Tracer | None,
    payloads: PayloadStore | None,
    kept: KeptRows | None,
) -> AcceptContext:
    auth = Authenticator(settings)
    row_lookup = RowLookup(
        pool,
        timeout_seconds=settings.ingress_lookup_timeout_ms / 1000,
        at_once=settings.ingress_appends_in_flight,
        kept=kept,
    )
    recent = RecentKeys()
    unread_keys = None
    if not transport.features.remembers:
        unread_keys = UnreadKeys(read, recent, limit=settings.ingress_backlog_records)
    direct = None
    if not settings.all_queued:
        direct = Direct(transport=read, pool=pool, writer=Writer(pool), settings=settings)
    committer = TickCommitter(
        transport=transport,
        row_lookup=row_lookup,
        recent=recent,
        direct=direct,
        metrics=metrics,
    )
    commits = GroupCommit(committer.commit, transport=transport, settings=settings, metrics=metrics)
    uploads = None
    if payloads is not None:
        held = settings.ingress_queue_bytes
        repeats = Repeats(row_lookup, recent, transport, metrics=metrics)
        uploads = Uploads(payloads, commits, repeats, held_bytes=held, metrics=metrics)
    return AcceptContext(
        guard=Guard(Hosts(settings, guarded=not auth.required), keys_required=auth.required),
        auth=auth,
        bodies=Bodies(
            held_bytes=settings.ingress_queue_bytes,
            seconds=settings.ingress_body_timeout_ms / 1000,
        ),
        intake=Intake(RequestLimits.of(settings)),
        commits=commits,
        uploads=uploads,
        admission=Admission(
            read,
            settings.ingress_max_lag_seconds,
            refused=metrics.of(IngressMetrics).shed.inc,
        ),
        row_lookup=row_lookup,
        recent=recent,
        unread_keys=unread_keys,
        tracer=tracer or PassOn(),
        hits=metrics.of(IdempotencyMetrics).hits.labels("ingress"),
    )


def _api(
    routers: Sequence[APIRouter],
    *,
    starting: Sequence[Callable[[], None]],
    closing: Sequence[Callable[[], Awaitable[None]]],
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for begin in starting:
            begin()
        yield
        for close in closing:
            await close()

    api = FastAPI(
        title="Crossfade",
        version="0.1.0",
        description="Durable message delivery over a log that can be changed under live traffic.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Its redirects name the scheme and the path that reached us, and a proxy had others.
        redirect_slashes=False,
    )
    error_handlers.install(api)
    for router in routers:
        api.include_router(router)
    return api
