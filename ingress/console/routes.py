"""The console's routes: status and its stream, timelines, groups, recorded actions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from ingress.console.models import (
    STATUS_EVENT,
    ActionPage,
    LetterGroups,
)
from ingress.console.sampler import Sampler
from ingress.console.state import READER, Console, OwnKey
from ingress.console.views import Hour, Status, Timeline
from ingress.routes import cursor
from ingress.routes.described import problems, scoped
from ingress.routes.messages import MessageId, canonical, not_found
from ingress.schema.problems import (
    DATABASE_UNAVAILABLE,
    INVALID,
    LOG_UNAVAILABLE,
    NOT_FOUND,
    Problem,
)
from ingress.schema.responses import encode
from ingress.web.auth import Scope
from ingress.web.browser import visitor
from persistence.dead_letters.groups import letter_groups

__all__ = ["router"]

_ACTIONS = "operator actions"
_GROUPS = "groups of dead letters"
_NO_STORE = {"Cache-Control": "no-store"}
# Told to every client: how long to wait before it connects again, in milliseconds.
_RETRY = b"retry: 1000\n\n"

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/status",
    summary="See logs, workers, PostgreSQL and what is wrong, at once",
    description="As this process sees it: at most a second old while somebody looks.",
    operation_id="getStatus",
    dependencies=[READER],
    openapi_extra=scoped(Scope.READ),
)
async def get_status(response: Response, console: Console) -> Status:
    response.headers.update(_NO_STORE)
    return await console.sampler.status()


@router.get(
    "/hour",
    summary="See the last hour, a point every ten seconds",
    description="As the process that answers has it: from its start on, and 360 points at "
    "most. Sums over every process.",
    operation_id="getHour",
    dependencies=[READER],
    openapi_extra=scoped(Scope.READ),
)
async def get_hour(response: Response, console: Console) -> Hour:
    response.headers.update(_NO_STORE)
    return console.hour.view()


@router.get(
    "/events",
    summary="Follow the status: one server-sent event a second",
    description="A stream that does not end by itself. The first line tells the client when "
    "to connect again.",
    operation_id="followStatus",
    dependencies=[READER],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events named `status`; each one's data is what `/status` answers, "
            "without its history. The last is named `end` where the key was taken away; its "
            "data is the problem.",
            "content": {"text/event-stream": {"schema": STATUS_EVENT}},
        },
        **problems(INVALID),
    },
    openapi_extra=scoped(Scope.READ),
)
async def follow_status(
    request: Request,
    console: Console,
    limit: Annotated[
        int | None, Query(ge=1, le=1000, description="End after so many events.")
    ] = None,
) -> StreamingResponse:
    # no-transform and X-Accel-Buffering: a proxy that gathers the stream would stop the clock.
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    asked = dict(request.scope["headers"])

    def check() -> None:
        visitor(console.auth, "GET", asked, Scope.READ, Scope.ADMIN)

    return StreamingResponse(
        _events(console.sampler, limit, check), media_type="text/event-stream", headers=headers
    )


@router.get(
    "/messages/{message_id}",
    summary="Read a message's whole story",
    description="Every step with its time and place, from acceptance to the row, the dead "
    "letter and the receipts.",
    operation_id="getTimeline",
    responses=problems(INVALID, NOT_FOUND, DATABASE_UNAVAILABLE, LOG_UNAVAILABLE),
    openapi_extra=scoped(Scope.READ),
)
async def get_timeline(message_id: MessageId, console: Console, key: OwnKey) -> Timeline:
    identifier = canonical(message_id)
    found = await console.timelines.of(identifier)
    if found is None:
        raise not_found(identifier)
    if key is not None and not key.sees(found.message.sender_id, found.message.conversation_id):
        raise not_found(identifier)
    return found


@router.get(
    "/dead-letters",
    summary="See pending dead letters grouped by reason and cause",
    description="Each group with its count and its latest error. Its reason and its cause are "
    "the filter of an action on all of it.",
    operation_id="groupDeadLetters",
    dependencies=[READER],
    responses=problems(INVALID, DATABASE_UNAVAILABLE),
    openapi_extra=scoped(Scope.READ),
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


@router.get(
    "/actions",
    summary="Read what was done by hand, newest first",
    description="Redrives, discards, steps of the migration: who, when, why, and how it ended.",
    operation_id="listActions",
    dependencies=[READER],
    responses=problems(INVALID, DATABASE_UNAVAILABLE),
    openapi_extra=scoped(Scope.READ),
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


async def _events(
    sampler: Sampler, limit: int | None, check: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Yield events while ``check`` lets the request read them: its key may be taken away."""
    yield _RETRY
    sent = 0
    async for status in sampler.follow():
        try:
            check()
        except Problem as problem:
            yield b"event: end\ndata: " + encode(problem.body()) + b"\n\n"
            return
        yield b"event: status\ndata: " + status + b"\n\n"
        sent += 1
        if sent == limit:
            return
