"""The two routes that carry the traffic, as plain ASGI in front of FastAPI.

FastAPI's routing and validation cost several times what accepting a message does. So these two
never reach it; they are described in the same OpenAPI document by :mod:`ingress.openapi`. Nothing
here is logged or traced per request, and nothing is awaited but the body and the group commit.
"""

from __future__ import annotations

from ingress import wire
from ingress.auth import Authenticator, Scope
from ingress.bodies import Bodies, Disconnected, Receive
from ingress.group_commit import GroupCommit
from ingress.headers import (
    Context,
    Headers,
    correlation_id,
    idempotency_key,
    media_type,
    traceparent,
)
from ingress.intake import Intake
from ingress.problems import Problem
from ingress.responses import encode
from ingress.wire import Send, respond, respond_problem
from otel.metrics import Metrics

__all__ = ["MESSAGES", "PostMessage"]

MESSAGES = "/api/messages"
_JSON = (b"application/json",)


class PostMessage:
    """``POST /api/messages``."""

    def __init__(
        self,
        *,
        auth: Authenticator,
        bodies: Bodies,
        commits: GroupCommit,
        intake: Intake,
        metrics: Metrics,
        limit: int,
    ) -> None:
        self._auth = auth
        self._bodies = bodies
        self._commits = commits
        self._intake = intake
        self._hits = metrics.idempotency_hits.labels("ingress")
        self._limit = limit

    async def __call__(self, scope: wire.Scope, receive: Receive, send: Send) -> None:
        """Accept one message; answered when it is durable."""
        headers: Headers = dict(scope["headers"])
        correlation: str | None = None
        try:
            self._auth.check(headers, Scope.PRODUCE)
            self._commits.admit()
            correlation = correlation_id(headers)
            media_type(headers, _JSON)
            body = await self._bodies.read(headers, receive, self._limit, "INGRESS_MAX_BODY_BYTES")
            context = Context(correlation, traceparent(headers))
            one = self._intake.message(body, context, idempotency_key(headers))
            await self._commits.submit((one,))
            ack = one.answer()
        except Problem as problem:
            await respond_problem(send, problem, correlation)
            return
        except Disconnected:
            return
        if ack.idempotent_hit:
            self._hits.inc()
        await respond(
            send,
            200 if ack.idempotent_hit else 202,
            [
                (b"content-type", b"application/json"),
                (
                    b"x-correlation-id",
                    (correlation or ack.correlation_id).encode("latin-1", "replace"),
                ),
            ],
            encode(ack),
        )
