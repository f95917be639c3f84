"""The span of a request to one of FastAPI's routes. The hot path makes its own spans."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ingress.web.asgi import Receive, Scope, Send
from otel.tracing.requests import CLIENT_GONE, Trace, Tracer

__all__ = ["trace_of", "traced"]

_TRACE = "crossfade.trace"
_App = Callable[[Scope, Receive, Send], Awaitable[None]]


def trace_of(scope: Scope) -> Trace:
    """Return the request's trace, for the records that it appends."""
    trace: Trace = scope[_TRACE]
    return trace


async def traced(app: _App, tracer: Tracer, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request. If it is sampled, record its span with the route that served it."""
    trace = tracer.begin(dict(scope["headers"]), scope["method"], scope["path"])
    scope[_TRACE] = trace
    if trace.request is None:
        await app(scope, receive, send)
        return
    status, correlation = CLIENT_GONE, None

    async def noting(event: MutableMapping[str, Any]) -> None:
        nonlocal status, correlation
        if event["type"] == "http.response.start":
            status = event["status"]
            given = dict(event["headers"]).get(b"x-correlation-id")
            correlation = given.decode("latin-1") if given else None
        await send(event)

    try:
        await app(scope, receive, noting)
    finally:
        route = getattr(scope.get("route"), "path", "")
        trace.request.end(status, correlation, route=route)
