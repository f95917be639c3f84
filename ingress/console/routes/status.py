"""The routes of the status, its event stream, and the last hour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from ingress.console.routes.models import STATUS_EVENT
from ingress.console.routes.state import Console
from ingress.console.sampler import Sampler
from ingress.console.views import Hour, Status
from ingress.routes.descriptions import problems
from ingress.schema.problems import INVALID, Problem
from ingress.schema.responses import encode
from ingress.web.access import OPERATE

__all__ = ["router"]

_NO_STORE = {"Cache-Control": "no-store"}
# Milliseconds that a client should wait before it connects again.
_RETRY = b"retry: 1000\n\n"

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/status",
    summary="See logs, workers, PostgreSQL and what is wrong, at once",
    description="As the answering process sees it. While a client follows the status, it is at "
    "most a second old.",
    operation_id="getStatus",
    dependencies=[Depends(OPERATE.key)],
)
async def get_status(response: Response, console: Console) -> Status:
    response.headers.update(_NO_STORE)
    return await console.sampler.status()


@router.get(
    "/hour",
    summary="See the last hour, a point every ten seconds",
    description="Points that the answering process has sampled since its start, 360 at most. "
    "Each is a sum over every process.",
    operation_id="getHour",
    dependencies=[Depends(OPERATE.key)],
)
async def get_hour(response: Response, console: Console) -> Hour:
    response.headers.update(_NO_STORE)
    return console.last_hour.view()


@router.get(
    "/events",
    summary="Follow the status: one server-sent event a second",
    description="The stream does not end by itself. Its first line tells the client how long to "
    "wait before it connects again.",
    operation_id="followStatus",
    dependencies=[Depends(OPERATE.key)],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events named `status`; their data is the answer of `/status`, "
            "without its history. If the key is revoked, the last event is named "
            "`end`, and its data is the problem.",
            "content": {"text/event-stream": {"schema": STATUS_EVENT}},
        },
        **problems(INVALID),
    },
)
async def follow_status(
    request: Request,
    console: Console,
    limit: Annotated[
        int | None, Query(ge=1, le=1000, description="End after so many events.")
    ] = None,
) -> StreamingResponse:
    # These headers keep a proxy from buffering the stream, which would hold back new events.
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    asked = dict(request.scope["headers"])

    def check() -> None:
        OPERATE.key_of(console.auth, "GET", asked)

    return StreamingResponse(
        _events(console.sampler, limit, check), media_type="text/event-stream", headers=headers
    )


async def _events(
    sampler: Sampler, limit: int | None, check: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Yield events. Before each, ``check`` refuses a request whose key was removed meanwhile."""
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
