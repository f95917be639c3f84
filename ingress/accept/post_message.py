"""The two routes that carry the traffic, as plain ASGI in front of FastAPI.

FastAPI's routing and validation cost several times what accepting a message does. So these two
never reach it; they are described in the same OpenAPI document by ``ingress.openapi``. Nothing
here is logged or traced per request, and nothing is awaited but the body and the group commit.
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
    Context,
    Headers,
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
    """``POST /api/messages``: the steps of it, and the ASGI door to them.

    The other door is ``ingress.accept.hot_path``, which takes the same steps without ASGI's
    cost.

    Args:
        context: the parts that both doors share.
        limit: the largest body, in bytes.
    """

    def __init__(self, context: AcceptContext, limit: int) -> None:
        self._context = context
        self.begin = partial(context.tracer.begin, method="POST", route=MESSAGES)
        """Begins the trace of a request, by its headers: the first step."""
        self.limit = limit
        """The largest body, in bytes."""
        forms = context.uploads is not None
        self._beside_json = ", or multipart/form-data for content of any kind" if forms else ""
        larger = "; larger content goes as multipart/form-data" if forms else ""
        self._limited_by = f"INGRESS_MAX_BODY_BYTES{larger}"

    def admit(self, headers: Headers) -> ApiKey | None:
        """Let a request in, before its body is read.

        Returns:
            The request's key, for ``submission``; ``None`` where none is needed.

        Raises:
            Problem: The request may not produce, too much is waiting, or its media type is another.
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
        """Return the message, checked, for ``hand_in``; ``key`` is what ``admit`` gave.

        Raises:
            Problem: it is not a message that can be accepted.
        """
        context = Context(correlation, trace)
        message = self._context.intake.message(body, context, idempotency_key(headers))
        if key is not None:
            message.admit(key)
        return message

    def hand_in(self, message: Submission, decided: Callable[[], None]) -> None:
        """Give the message to the group commit, which calls ``decided`` when it has its verdict.

        Raises:
            Problem: the service is shutting down.
        """
        uploads = self._context.uploads
        if uploads is not None and uploads.wants(message):
            uploads.hand_in(message, decided)
        else:
            self._context.commits.hand_in((message,), decided)

    def answer(self, message: Submission, correlation: str | None) -> tuple[int, bytes, bytes]:
        """Return status, ``X-Correlation-ID`` and JSON body for a message that has its verdict.

        Raises:
            Problem: it was not accepted, or its key stands for another body.
        """
        ack = message.answer()
        status, given = 202, correlation or ack.correlation_id
        if ack.idempotent_hit:
            self._context.hits.inc()
            status = 200
        if given is message.message_id:  # usually; its own id is always a header value
            return status, given.encode(), encode(ack)
        return status, header_safe(given, ack.message_id), encode(ack)

    async def __call__(self, scope: wire.Scope, receive: Receive, send: Send) -> None:
        """Accept one message; answered when it is durable."""
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
