"""Methods that all paths answer alike: HEAD, OPTIONS, and methods that a path does not have."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from ingress.schema.problems import METHOD, NOT_FOUND, Problem
from ingress.web.asgi import Scope, Send, respond_problem

__all__ = ["head", "is_head", "other_method"]

_HEAD = "crossfade.head"


def head(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Return a HEAD request as GET, and a ``send`` that drops the answer's body.

    RFC 9110, section 9.3.2: the answer has the headers that GET would have.
    """
    ended = False

    async def bodiless(message: MutableMapping[str, Any]) -> None:
        nonlocal ended
        if message["type"] == "http.response.body":
            if ended:
                return
            ended = True  # end the answer at once: a stream of events may have no end
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return {**scope, "method": "GET", _HEAD: True}, bodiless


def is_head(scope: Scope) -> bool:
    """Return whether the request was HEAD, so that a route need not make the body."""
    return _HEAD in scope


async def other_method(scope: Scope, send: Send, allowed: Sequence[str]) -> None:
    """Answer OPTIONS with the allowed methods, and any other method with 405.

    If ``allowed`` is empty, the path does not exist, and the answer is 404.
    """
    path = scope["path"][:200]
    if not allowed:
        await respond_problem(send, Problem(NOT_FOUND, f"Nothing is at {path}."), None)
        return
    names = ", ".join(allowed)
    if scope["method"] == "OPTIONS":
        start = {
            "type": "http.response.start",
            "status": 204,
            "headers": [(b"allow", names.encode())],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b""})
        return
    detail = f"{scope['method']} is not for {path}; use {names}."
    await respond_problem(send, Problem(METHOD, detail, headers={"Allow": names}), None)
