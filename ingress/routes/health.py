"""Liveness and readiness. Neither needs a key: load balancers have none."""

from __future__ import annotations

from fastapi import APIRouter, Response

from ingress.readiness import ReadinessChecks, ReadinessReport
from ingress.routes.models import Health
from ingress.schema.retry_after import AWAY

__all__ = ["health_router"]


def health_router(state: ReadinessChecks) -> APIRouter:
    """Return the routes ``/healthz`` and ``/readyz``."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz",
        summary="Whether the process runs",
        description="Answers as long as the process can answer at all. It asks no dependency.",
        operation_id="getHealth",
    )
    async def get_health() -> Health:
        return Health(status="ok")

    @router.get(
        "/readyz",
        summary="Whether the process can do its work, dependency by dependency",
        description="503 where a required component is down, and before the process stops; "
        "`degraded` means that it works, with something an operator should see to.",
        operation_id="getReadiness",
        responses={503: {"model": ReadinessReport, "description": "A required component is down."}},
    )
    async def get_readiness(response: Response) -> ReadinessReport:
        report = await state.report()
        if report.status == "unavailable":
            response.status_code = 503
            response.headers.update(AWAY)
        return report

    return router
