"""The route that lists operators' recorded actions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ingress.console.routes.models import ActionPage
from ingress.console.routes.state import Console
from ingress.routes import cursor
from ingress.routes.descriptions import problems
from ingress.schema.problems import DATABASE_UNAVAILABLE, INVALID
from ingress.web.access import READ_ALL

__all__ = ["router"]

_ACTIONS = "operator actions"

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/actions",
    summary="List operators' actions, newest first",
    description="Redrives, discards, steps of the migration: who, when, why, and how it ended.",
    operation_id="listActions",
    dependencies=[Depends(READ_ALL.key)],
    responses=problems(INVALID, DATABASE_UNAVAILABLE),
)
async def list_actions(
    console: Console,
    after: Annotated[
        str | None, Query(max_length=64, description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ActionPage:
    before = cursor.decode(after, _ACTIONS) if after is not None else None
    rows = await console.actions.recent(before=before, limit=limit + 1)
    page = rows[:limit]
    more = len(rows) > limit
    return ActionPage(
        items=page,
        next=cursor.encode(page[-1].id, _ACTIONS) if more else None,
    )
