"""Health probes of a process's parts, and the small application that serves them without an API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastapi import FastAPI

from compose.process.context import ProcessContext
from ingress.console.health.losses import loss_sentence
from ingress.console.health.wording import alarms_in, with_remedy
from ingress.http1.bounds import Bounds
from ingress.http1.listener import Listener
from ingress.metrics import IngressMetrics
from ingress.readiness import ComponentState, Probe, ReadinessChecks, WorkerProbe
from ingress.routes.health import health_router
from otel.losses import Losses
from persistence.database.read_pool import ReadPool
from persistence.database.replay_lag import ANOTHERS, LATE_SECONDS
from persistence.payloads.store import PayloadStore
from persistence.worker.log_follower import FollowerStatus, LogFollower
from persistence.worker.partition_follower import WaitingPartition
from persistence.worker.worker import Worker
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import PartlyUnavailable, TransportError, Unreadable
from transport.shadow.mirror import Mirror

__all__ = [
    "Application",
    "HealthOnly",
    "loss_probe",
    "payload_probe",
    "reads_probe",
    "shadow_probe",
    "worker_probe",
]


class Application(Protocol):
    """An ASGI application that can be made to answer "not ready"."""

    listener: Listener
    """Makes the HTTP connections of the application."""

    def drain(self, *, ready: bool = False) -> None:
        """Make ``/readyz`` say no from now on, unless ``ready``."""

    async def __call__(
        self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Serve one connection event of the server."""


class HealthOnly:
    """``/healthz`` and ``/readyz`` of a process that has workers and no API.

    Such a process can do nothing without PostgreSQL, or while it can't read the log, so it is not
    ready then.
    ``probes`` check further dependencies.
    """

    def __init__(
        self,
        context: ProcessContext,
        *,
        transport: Transport,
        worker: WorkerProbe,
        probes: Sequence[Probe] = (),
        unwritten: Callable[[], str | None] = lambda: None,
    ) -> None:
        settings, metrics = context.settings.ingress, context.metrics
        self._readiness = ReadinessChecks(
            transport=transport,
            pool=context.pool,
            needs=("database", "reads"),
            timeout_seconds=settings.ingress_health_timeout_ms / 1000,
            worker=worker,
            probes=probes,
            unwritten=unwritten,
        )
        self.listener = Listener(Bounds.of(settings), metrics.of(IngressMetrics).connections_ended)
        self._api = FastAPI(title="Crossfade worker", docs_url=None, redoc_url=None)
        self._api.include_router(health_router(self._readiness))

    def drain(self, *, ready: bool = False) -> None:
        """Make ``/readyz`` say no from now on, unless ``ready``."""
        if not ready:
            self._readiness.drain()

    async def __call__(
        self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Serve one connection event of the server."""
        await self._api(scope, receive, send)


def worker_probe(
    worker: Worker, followers: Sequence[LogFollower] = (), *, required: bool
) -> WorkerProbe:
    """Return the probe of the workers: degraded while they wait for a dependency.

    The probe names a follower that waits, but reports "up".
    """

    def probe() -> ComponentState:
        status = worker.status()
        others = "".join(f" {_follower(follower.status())}" for follower in followers)
        if status.paused:
            waits = "; ".join(
                f"waits for {paused.dependency} since {paused.since}: {paused.error}"
                for paused in status.paused
            )
            return ComponentState("workers", "degraded", required, f"{waits}.{others}")
        if status.surplus:
            which = ", ".join(map(str, status.surplus))
            detail = f"The log has more partitions than STREAM_PARTITIONS: {which} are persisted,"
            detail += f" and their lag is not counted. Write to the others only.{others}"
            return ComponentState("workers", "degraded", required, detail)
        if status.waiting:
            detail = f"{_waits(status.waiting)}.{others}"
            return ComponentState("workers", "degraded", required, detail)
        count = len(status.partitions)
        return ComponentState("workers", "up", required, f"Own {count} partitions.{others}")

    return probe


def _follower(status: FollowerStatus) -> str:
    kept = f"Follow {len(status.epochs or ())} of {status.transport}"
    if status.paused:
        paused = status.paused[0]
        return f"{kept}, which waits for {paused.dependency} since {paused.since}: {paused.error}."
    return f"{kept}; {_waits(status.waiting)}." if status.waiting else f"{kept}."


def _waits(waiting: Sequence[WaitingPartition]) -> str:
    first = waiting[0]
    return (
        f"{len(waiting)} wait, partition {first.partition} at {first.offset} since {first.since}: "
        f"{first.reason}"
    )


def loss_probe(losses: Losses) -> Probe:
    """Return the probe of lost records.

    It is degraded for as long as the loss is an alarm (``ingress.console.health.losses``). A loss
    never makes the process unavailable: it goes on accepting and persisting messages.
    """

    async def probe() -> ComponentState:
        found = [loss_sentence(loss) for loss in losses.all()]
        if not found:
            return ComponentState("losses", "up", False, "No record left a log unread.")
        detail = " ".join(map(with_remedy, found))
        return ComponentState("losses", "degraded" if alarms_in(found) else "up", False, detail)

    return probe


def payload_probe(store: PayloadStore, *, timeout_seconds: float) -> Probe:
    """Return the probe of the payload store: never required, since small messages don't use it."""

    async def probe() -> ComponentState:
        name = f"payload store ({store.settings.payload_store})"
        why = await store.trouble(within=timeout_seconds)
        if why is None:
            return ComponentState(name, "up", False, "It answers.")
        end = "" if why.endswith((".", "?", "!")) else "."
        detail = f"{why}{end} Large messages get 503; small ones are accepted."
        return ComponentState(name, "degraded", False, detail)

    return probe


def reads_probe(reads: ReadPool, *, timeout_seconds: float) -> Probe:
    """Return the probe of the server for pages. The primary stands in for it."""

    async def probe() -> ComponentState:
        name = "database of reads"
        if why := await reads.trouble(within=timeout_seconds):
            detail = f"{why}. Pages and the console's search come from DATABASE_URL."
            return ComponentState(name, "degraded", False, detail)
        if await reads.has_anothers_messages(within=timeout_seconds):
            detail = f"DATABASE_READ_URL is wrong: {ANOTHERS}. Pages show those messages."
            return ComponentState(name, "degraded", False, detail)
        lag = await reads.lag(within=timeout_seconds)
        if lag is not None and lag > LATE_SECONDS:
            detail = (
                f"It is {lag:,.0f} s behind, and so are pages and the console's search: see that "
                "it replicates, or unset DATABASE_READ_URL."
            )
            return ComponentState(name, "degraded", False, detail)
        return ComponentState(name, "up", False, "It answers.")

    return probe


def shadow_probe(mirror: Mirror, *, timeout_seconds: float) -> Probe:
    """Return the probe of the shadow: required in sync mode, where every message needs a copy."""
    required = mirror.mode == "sync"
    name = f"shadow ({mirror.transport.name}, {mirror.mode})"

    async def probe() -> ComponentState:
        status = mirror.status()
        try:
            await answer(mirror.transport.ping(), within=timeout_seconds)
        except (TransportError, TimeoutError) as error:
            why = str(error) or f"No answer within {timeout_seconds:g} s"
            detail = f"{why.rstrip('.')}. {status.waiting} copies wait for it."
            if not required:
                detail += " Messages are accepted all the same; backfill repairs what it misses."
            is_down = required and not isinstance(error, PartlyUnavailable | Unreadable)
            return ComponentState(name, "down" if is_down else "degraded", required, detail)
        if status.breaker != "closed":
            detail = f"It answers, and took no copy when last tried: {status.error}."
            return ComponentState(name, "degraded", required, detail)
        detail = f"It takes copies; {status.waiting} wait."
        return ComponentState(name, "up", required, detail)

    return probe
