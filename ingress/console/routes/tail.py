"""The route of the live tail: appended messages as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from ingress.console.routes.models import TAIL_EVENT
from ingress.console.routes.state import Console
from ingress.console.tail import MOST_FOLLOWERS, Tail, TailFilter
from ingress.routes.descriptions import problems
from ingress.routes.models import Text
from ingress.schema.problems import INVALID, TOO_MANY_CONNECTIONS, Problem
from ingress.schema.responses import encode
from ingress.web.access import READ, ReadKey

__all__ = ["router"]

# Milliseconds that a client should wait before it connects again.
_RETRY = b"retry: 1000\n\n"
# These headers keep a proxy from buffering the stream, which would hold back new events.
_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}

router = APIRouter(prefix="/api/console", tags=["console"])


@router.get(
    "/tail/events",
    summary="Follow messages as they are appended",
    description="Messages of the log that workers read, from now on, read without a consumer "
    "group. Records that come faster than the client can follow are skipped, and counted in "
    "`skipped`.",
    operation_id="followMessages",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events named `news`: `lines` for appended messages, `fates` for the "
            "outcomes of messages in earlier events, `skipped` for the number of "
            "skipped records, and the `error` that keeps the log from being read. "
            "The first comes at once, then one every five seconds at least. If "
            "the key is revoked, the last event is named `end`, and its data is "
            "the problem.",
            "content": {"text/event-stream": {"schema": TAIL_EVENT}},
        },
        **problems(INVALID, TOO_MANY_CONNECTIONS),
    },
)
async def follow_messages(
    *,
    request: Request,
    console: Console,
    key: ReadKey,
    conversation: Text | None = None,
    sender: Text | None = None,
    text: Annotated[Text | None, Query(description="Part of the content.")] = None,
    limit: Annotated[
        int | None, Query(ge=1, le=1000, description="End after so many events.")
    ] = None,
) -> StreamingResponse:
    headers = dict(request.scope["headers"])

    def check() -> TailFilter:
        now = READ.key_of(console.auth, "GET", headers)
        return TailFilter(conversation, sender, text, now)

    wanted = TailFilter(conversation, sender, text, key)
    if key is not None:
        key.answers_for(sender=sender or "", conversation=conversation or "")
    if console.tail.full:
        raise Problem(
            TOO_MANY_CONNECTIONS,
            f"{MOST_FOLLOWERS} follow the messages on this process already: close one.",
            headers={"Retry-After": "10"},
        )
    return StreamingResponse(
        _events(console.tail, wanted, limit, check),
        media_type="text/event-stream",
        headers=_HEADERS,
    )


async def _events(
    tail: Tail, wanted: TailFilter, limit: int | None, check: Callable[[], TailFilter]
) -> AsyncIterator[bytes]:
    """Yield events. End them if the request's key was removed, or if its prefixes changed."""
    yield _RETRY
    sent = 0
    async for news in tail.follow(wanted):
        try:
            now = check()
        except Problem as problem:
            yield b"event: end\ndata: " + encode(problem.body()) + b"\n\n"
            return
        if now != wanted:
            return  # the key's prefixes have changed: the client connects again
        yield b"event: news\ndata: " + encode(news) + b"\n\n"
        sent += 1
        if sent == limit:
            return
