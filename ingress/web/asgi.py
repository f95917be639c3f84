"""ASGI's types, and functions that send an answer without a framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

from ingress.schema.problems import MEDIA_TYPE, Problem
from ingress.schema.responses import encode

__all__ = [
    "Answer",
    "AsgiApp",
    "Headers",
    "Receive",
    "Scope",
    "Send",
    "problem_answer",
    "respond",
    "respond_problem",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
"""A whole response: status, headers without ``Content-Length``, body."""


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response. This appends ``Content-Length`` to ``headers``."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem_answer(problem: Problem, correlation_id: str | None) -> Answer:
    """Return a problem's response. It gets a new correlation id if ``correlation_id`` is missing.

    So a client can report every problem by its correlation id.
    """
    correlation_id = correlation_id or str(uuid4())
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"x-correlation-id", correlation_id.encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    return problem.kind.status, headers, encode(problem.body(correlation_id))


async def respond_problem(send: Send, problem: Problem, correlation_id: str | None) -> None:
    """Send a problem document."""
    await respond(send, *problem_answer(problem, correlation_id))
