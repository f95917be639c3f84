"""``GET /api/jobs``: the long jobs of all processes. Other routes and commands control them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ingress.routes.descriptions import problems
from ingress.routes.models import Jobs
from ingress.routes.state import Routes
from ingress.schema import problems as p
from ingress.web.access import READ_ALL
from persistence.jobs.table import JobTable
from persistence.tables.states import JobKind

__all__ = ["router"]

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


@router.get(
    "",
    summary="List the latest long jobs",
    description="Redrives, backfills and repairs, newest first, whichever process began them: "
    "from here, from the console or by a command. A redrive is steered under "
    "`/api/dead-letters/redrives`, the others by the `crossfade` command.",
    operation_id="listJobs",
    dependencies=[Depends(READ_ALL.key)],
    responses=problems(p.INVALID, p.DATABASE_UNAVAILABLE),
)
async def list_jobs(
    routes: Routes,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Jobs:
    return Jobs(items=await JobTable(routes.pool).recent(limit, kind))
