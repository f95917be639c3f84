"""``POST /api/messages`` as plain ASGI, in front of FastAPI.

FastAPI's routing and validation cost several times as much as accepting a message. So this route
and the batch route do not use FastAPI; ``ingress.openapi`` describes them in the same OpenAPI
document. A request awaits only its body and the group commit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ingress.accept.bodies import Disconnected
from ingress.accept.context import AcceptContext
from ingress.accept.submission import Submission
from ingress.schema.problems import Problem
from ingress.schema.responses import encode
from ingress.web import asgi as wire
from ingress.web.asgi import Receive, Send, problem_answer, respond
from ingress.web.auth import ApiKey
from ingress.web.headers import (
    Headers,
    RequestContext,
    by_name,
    correlation_id,
    header_safe,
    idempotency_key,
    media_type,
)
from otel.tracing.requests import Trace

__all__ = ["MESSAGES", "PostMessage"]

MESSAGES = "/api/messages"
_JSON = (b"application/json",)


class PostMessage:
    """The steps of ``POST /api/messages``, and the ASGI application that runs them.

    ``ingress.accept.hot_path`` runs the same steps without the cost of ASGI.

    Args:
        context: The parts that a message passes on its way in.
        limit: The largest body, in bytes.
    """

    def __init__(self, context: AcceptContext, limit: int) -> None:
        self._context = context
        self.begin = partial(context.tracer.begin, method="POST", route=MESSAGES)
        """The first step: begins the trace of a request, from its headers."""
        self.limit = limit
        """The largest body, in bytes."""
        forms = context.uploads is not None
        self._beside_json = ", or multipart/form-data for content of any kind" if forms else ""
        larger = "; larger content goes as multipart/form-data" if forms else ""
        self._limited_by = f"INGRESS_MAX_BODY_BYTES{larger}"

    def admit(self, headers: Headers) -> ApiKey | None:
        """Check a request before its body is read.

        Returns:
            The request's key, for ``submission``; ``None`` if no keys are needed.

        Raises:
            Problem: The request may not produce, too much is waiting, or its media type is not
                supported.
        """
        key = self._context.admit(headers)
        media_type(headers, _JSON, beside=self._beside_json)
        return key

    def submission(
        self,
        headers: Headers,
        correlation: str | None,
        trace: Trace,
        body: bytes,
        key: ApiKey | None,
    ) -> Submission:
        """Return the checked message, for ``hand_in``.

        Args:
            headers: The request's headers.
            correlation: The client's correlation id, if any.
            trace: The request's trace.
            body: The message's JSON.
            key: The key that ``admit`` returned.

        Raises:
            Problem: The message can't be accepted.
        """
        context = RequestContext(correlation, trace)
        message = self._context.intake.message(body, context, idempotency_key(headers))
        if key is not None:
            message.admit(key)
        return message

    def hand_in(self, message: Submission, decided: Callable[[], None]) -> None:
        """Hand the message to the group commit, which calls ``decided`` when it has its verdict.

        Raises:
            Problem: The service is shutting down (503).
        """
        uploads = self._context.uploads
        if uploads is not None and uploads.wants(message):
            uploads.hand_in(message, decided)
        else:
            self._context.commits.hand_in((message,), decided)

    def answer(self, message: Submission, correlation: str | None) -> tuple[int, bytes, bytes]:
        """Return status, ``X-Correlation-ID`` and JSON body for a message that has its verdict.

        Raises:
            Problem: The message was not accepted, or its key was used for another body.
        """
        ack = message.answer()
        status, given = 202, correlation or ack.correlation_id
        if ack.idempotent_hit:
            self._context.hits.inc()
            status = 200
        if given is message.message_id:  # the usual case; an id is always safe in a header
            return status, given.encode(), encode(ack)
        return status, header_safe(given, ack.message_id), encode(ack)

    async def __call__(self, scope: wire.Scope, receive: Receive, send: Send) -> None:
        """Accept one message. Answer when it is durable."""
        headers = by_name(scope["headers"])
        trace = self.begin(headers)
        correlation: str | None = None
        try:
            correlation = correlation_id(headers)
            key = self.admit(headers)
            body = await self._context.bodies.read(headers, receive, self.limit, self._limited_by)
            message = self.submission(headers, correlation, trace, body, key)
            await self._context.submit((message,))
            status, given, ack = self.answer(message, correlation)
        except Problem as problem:
            answer = problem_answer(problem, correlation)
        except Disconnected:
            return
        else:
            answer = status, [(b"content-type", _JSON[0]), (b"x-correlation-id", given)], ack
        await respond(send, *answer)
        if trace.request is not None:
            trace.request.end(answer[0], correlation)
