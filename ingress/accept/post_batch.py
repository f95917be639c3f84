"""``POST /api/messages:batch``: up to a thousand messages in one request, with a result each."""

from __future__ import annotations

from collections.abc import Sequence

from ingress.accept.bodies import Disconnected
from ingress.accept.context import AcceptContext
from ingress.accept.intake import Item
from ingress.accept.submission import Submission
from ingress.accept.time_slices import TimeSlices
from ingress.schema.problems import FieldError, Problem
from ingress.schema.responses import AckResult, BatchResult, ProblemResult, encode, encode_lines
from ingress.schema.validation_errors import field_problem
from ingress.web import asgi as wire
from ingress.web.asgi import Receive, Send, respond, respond_problem
from ingress.web.auth import ApiKey
from ingress.web.headers import RequestContext, by_name, correlation_id, media_type
from otel.tracing.requests import CLIENT_GONE

__all__ = ["BATCH", "MEDIA_TYPES", "NDJSON", "PostBatch"]

BATCH = "/api/messages:batch"
NDJSON = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")
MEDIA_TYPES = (b"application/json", *NDJSON)
_UNAVAILABLE = 503


class PostBatch:
    """The ASGI application of ``POST /api/messages:batch``.

    Args:
        context: The parts that a message passes on its way in.
        limit: The largest body, in bytes.
    """

    def __init__(self, context: AcceptContext, limit: int) -> None:
        self._context = context
        self._limit = limit
        self._slices = TimeSlices()

    async def __call__(self, scope: wire.Scope, receive: Receive, send: Send) -> None:
        """Accept a batch. Answer when every message in it has its outcome."""
        shared = self._context
        headers = by_name(scope["headers"])
        trace = shared.tracer.begin(headers, "POST", BATCH)
        correlation: str | None = None
        status = CLIENT_GONE
        try:
            key = shared.admit(headers)
            correlation = correlation_id(headers)
            if b"idempotency-key" in headers:
                raise field_problem([_ONE_KEY])
            media = media_type(headers, MEDIA_TYPES)
            body = await shared.bodies.read(
                headers, receive, self._limit, "INGRESS_MAX_BATCH_BYTES"
            )
            context = RequestContext(correlation, trace)
            lines = media in NDJSON
            read = shared.intake.lines if lines else shared.intake.batch
            items: list[Item] = await self._slices.run(read(body, context))
            if key is not None:
                items = [_permitted(item, key) for item in items]
            accepted = [item for item in items if isinstance(item, Submission)]
            if accepted:
                shared.admission.count(len(accepted) - 1)
                await shared.submit(accepted)
            results = self._results(items, correlation)
            answer_headers = _headers(results, media, correlation)
            status = 207
            body = encode_lines(results) if lines else encode(results)
            await respond(send, status, answer_headers, body)
        except Problem as problem:
            status = problem.kind.status
            await respond_problem(send, problem, correlation)
        except Disconnected:
            return
        finally:
            if trace.request is not None:
                trace.request.end(status, correlation)

    def _results(self, items: Sequence[Item], correlation: str | None) -> list[BatchResult]:
        results: list[BatchResult] = []
        unavailable: Problem | None = None
        hits = refused = 0
        for item in items:
            try:
                if isinstance(item, Problem):
                    raise item
                ack = item.answer()
            except Problem as problem:
                if problem.kind.status == _UNAVAILABLE:
                    unavailable = problem
                    refused += 1
                results.append(_refused(problem, correlation))
                continue
            hits += ack.idempotent_hit
            results.append(
                AckResult(
                    200 if ack.idempotent_hit else 202,
                    ack.message_id,
                    ack.state,
                    ack.accepted_at,
                    ack.idempotent_hit,
                    ack.correlation_id,
                )
            )
        if hits:
            self._context.hits.inc(hits)
        if unavailable is not None and refused == len(items):
            # No message was accepted: answer 503 as the status, where proxies and clients look.
            raise Problem(unavailable.kind, unavailable.detail, headers=unavailable.headers)
        return results


def _permitted(item: Item, key: ApiKey) -> Item:
    """Return the item, or the problem (403) if ``key`` may not send it."""
    if isinstance(item, Submission):
        try:
            item.admit(key)
        except Problem as problem:
            return problem
    return item


def _refused(problem: Problem, correlation: str | None) -> ProblemResult:
    body = problem.body(correlation)
    return ProblemResult(
        body.type, body.title, body.status, body.detail, body.errors, body.correlation_id
    )


def _headers(results: Sequence[BatchResult], media: bytes, correlation: str | None) -> wire.Headers:
    headers = [(b"content-type", media)]
    if correlation is not None:
        headers.append((b"x-correlation-id", correlation.encode()))
    if any(result.status == _UNAVAILABLE for result in results):
        headers.append((b"retry-after", b"2"))
    return headers


_ONE_KEY = FieldError(
    "Idempotency-Key",
    "can't stand for the keys of many messages",
    "Give each item its own clientMessageId.",
)
