"""The two routes that carry the traffic, as plain ASGI in front of FastAPI.

FastAPI's routing and validation cost several times what accepting a message does. So these two
never reach it; they are described in the same OpenAPI document by :mod:`ingress.openapi`. Nothing
here is logged or traced per request, and nothing is awaited but the body and the group commit.
"""

from __future__ import annotations

import asyncio
from functools import partial

from ingress import wire
from ingress.auth import Authenticator, Scope
from ingress.bodies import Bodies, Disconnected, Receive
from ingress.group_commit import GroupCommit
from ingress.headers import (
    Context,
    Headers,
    correlation_id,
    header_safe,
    idempotency_key,
    media_type,
)
from ingress.intake import Intake
from ingress.problems import Problem
from ingress.responses import encode
from ingress.submission import Submission
from ingress.wire import Send, problem_answer, respond
from otel.metrics import Metrics
from otel.tracing.requests import Trace, Tracer

__all__ = ["MESSAGES", "PostMessage"]

MESSAGES = "/api/messages"
_JSON = (b"application/json",)


class PostMessage:
    """``POST /api/messages``: the steps of it, and the ASGI door to them.

    The other door is :mod:`ingress.protocol`, which takes the same steps without ASGI's cost.
    """

    def __init__(
        self,
        *,
        auth: Authenticator,
        bodies: Bodies,
        commits: GroupCommit,
        intake: Intake,
        metrics: Metrics,
        limit: int,
        tracer: Tracer,
    ) -> None:
        self._auth = auth
        self._bodies = bodies
        self._commits = commits
        self._intake = intake
        self._hits = metrics.idempotency_hits.labels("ingress")
        self.begin = partial(tracer.begin, method="POST", route=MESSAGES)
        """Return what goes with a request, by its headers; the first step."""
        self.limit = limit
        """The largest body, in bytes."""

    def admit(self, headers: Headers) -> None:
        """Return if the request may go on, before its body is read.

        Raises:
            Problem: who sends it may not, too much is waiting, or its media type is another.
        """
        self._auth.check(headers, Scope.PRODUCE)
        self._commits.admit()
        media_type(headers, _JSON)

    def submit(
        self, headers: Headers, correlation: str | None, trace: Trace, body: bytes
    ) -> tuple[Submission, asyncio.Future[None]]:
        """Hand the message to the group commit; the future is done when it has its verdict.

        Raises:
            Problem: it is not a message that can be accepted.
        """
        context = Context(correlation, trace)
        one = self._intake.message(body, context, idempotency_key(headers))
        return one, self._commits.submit((one,))

    def answer(self, one: Submission, correlation: str | None) -> wire.Answer:
        """Return the response to a message that has its verdict.

        Raises:
            Problem: it was not accepted, or its key stands for another body.
        """
        ack = one.answer()
        status, given = 202, correlation or ack.correlation_id
        if ack.idempotent_hit:
            self._hits.inc()
            status = 200
        headers = [
            (b"content-type", b"application/json"),
            (b"x-correlation-id", header_safe(given, ack.message_id)),
        ]
        return status, headers, encode(ack)

    async def __call__(self, scope: wire.Scope, receive: Receive, send: Send) -> None:
        """Accept one message; answered when it is durable."""
        headers: Headers = dict(scope["headers"])
        trace = self.begin(headers)
        correlation: str | None = None
        try:
            correlation = correlation_id(headers)
            self.admit(headers)
            body = await self._bodies.read(headers, receive, self.limit, "INGRESS_MAX_BODY_BYTES")
            one, decided = self.submit(headers, correlation, trace, body)
            await decided
            answer = self.answer(one, correlation)
        except Problem as problem:
            answer = problem_answer(problem, correlation)
        except Disconnected:
            return
        await respond(send, *answer)
        if trace.request is not None:
            trace.request.end(answer[0], correlation)
