"""The route that lists pending dead letters in groups, by reason and cause."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ingress.console.routes.models import LetterGroups
from ingress.console.routes.state import Console
from ingress.routes import cursor
from ingress.routes.descriptions import problems
from ingress.schema.problems import DATABASE_UNAVAILABLE, INVALID
from ingress.web.access import READ_ALL
from persistence.dead_letters.groups import letter_groups

__all__ = ["router"]

_GROUPS = "groups of dead letters"

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/dead-letters",
    summary="See pending dead letters grouped by reason and cause",
    description="Each group has its count and its latest error. To redrive or discard a whole "
    "group, filter by its reason and its cause.",
    operation_id="groupDeadLetters",
    dependencies=[Depends(READ_ALL.key)],
    responses=problems(INVALID, DATABASE_UNAVAILABLE),
)
async def group_dead_letters(
    console: Console,
    after: Annotated[
        str | None, Query(max_length=64, description="`next` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> LetterGroups:
    place = cursor.decode(after, _GROUPS) if after is not None else None
    page = await letter_groups(console.pool, after=place, limit=limit)
    return LetterGroups(
        items=page.items,
        next=None if page.next is None else cursor.encode(page.next, _GROUPS),
        ungrouped=page.ungrouped,
    )
