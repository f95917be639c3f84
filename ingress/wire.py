"""Answers as ASGI messages, assembled without a framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

from ingress.problems import MEDIA_TYPE, Problem
from ingress.responses import encode

__all__ = ["Headers", "Scope", "Send", "respond", "respond_problem"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response; ``Content-Length`` is added to ``headers``."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_problem(send: Send, problem: Problem, correlation_id: str | None) -> None:
    """Send a problem document. It always has a correlation id, so that it can be reported."""
    correlation_id = correlation_id or str(uuid4())
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"x-correlation-id", correlation_id.encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await respond(send, problem.kind.status, headers, encode(problem.body(correlation_id)))
