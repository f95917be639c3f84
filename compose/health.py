"""Health of the workers, and the small application that serves it where there is no API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import FastAPI

from ingress.readiness import ComponentState, Readiness, WorkerProbe
from ingress.routes.health import health_router
from ingress.settings import IngressSettings
from persistence.database import Pool
from persistence.worker import Worker
from transport.contract import Transport

__all__ = ["Application", "HealthOnly", "worker_probe"]


class Application(Protocol):
    """An ASGI application that can be told to say not ready.

    ``protocol`` is the HTTP protocol to serve it with, where it has one of its own.
    """

    protocol: type[asyncio.Protocol] | None

    def drain(self) -> None:
        """Make ``/readyz`` say no from now on."""

    async def __call__(
        self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Serve one connection event of the server."""


class HealthOnly:
    """``/healthz`` and ``/readyz`` of a process that has workers and no API.

    Such a process is of no use without PostgreSQL, so it is not ready without it.
    """

    protocol: type[asyncio.Protocol] | None = None

    def __init__(
        self, *, transport: Transport, pool: Pool, settings: IngressSettings, worker: WorkerProbe
    ) -> None:
        self._readiness = Readiness(
            transport=transport,
            pool=pool,
            database_required=True,
            timeout_seconds=settings.ingress_health_timeout_ms / 1000,
            worker=worker,
        )
        self._api = FastAPI(title="Crossfade worker", docs_url=None, redoc_url=None)
        self._api.include_router(health_router(self._readiness))

    def drain(self) -> None:
        """Make ``/readyz`` say no from now on."""
        self._readiness.drain()

    async def __call__(
        self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Serve one connection event of the server."""
        await self._api(scope, receive, send)


def worker_probe(worker: Worker, *, required: bool) -> WorkerProbe:
    """Return what tells how ``worker`` is: degraded while it waits for something."""

    def probe() -> ComponentState:
        status = worker.status()
        if status.paused:
            waits = "; ".join(
                f"waits for {one.dependency} since {one.since}: {one.error}"
                for one in status.paused
            )
            return ComponentState("workers", "degraded", required, f"{waits}.")
        count = len(status.partitions)
        return ComponentState("workers", "up", required, f"Own {count} partitions.")

    return probe
