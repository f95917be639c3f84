"""The description of the hot path's two routes, which FastAPI does not serve.

Their schemas are made from the structs that decode requests and encode answers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ingress.accept.post_batch import BATCH, MEDIA_TYPES
from ingress.accept.post_message import MESSAGES
from ingress.openapi.headers import CORRELATION, RETRY
from ingress.routes.descriptions import problems
from ingress.schema import problems as p
from ingress.schema.problems import ProblemBody, ProblemKind
from ingress.schema.requests import ID_LENGTH, KEY_BYTES, MessageRequest
from ingress.schema.responses import Ack, AckResult, ProblemResult
from ingress.settings import IngressSettings
from ingress.web.headers import CORRELATION_PATTERN
from ingress.web.inflate import ACCEPTED

__all__ = ["REF", "hot_components", "hot_paths"]

REF = "#/components/schemas/{name}"
_COMMON = (p.TOO_LARGE, p.TIMED_OUT, p.MEDIA, p.MALFORMED, p.INVALID)
_CODINGS = f"The body may be compressed: `Content-Encoding` {ACCEPTED.replace(',', ' or')}."
_FULL = (p.OVERLOADED, p.LOG_UNAVAILABLE, p.OUTCOME_UNKNOWN, p.PAYLOADS_UNAVAILABLE)


def hot_components(settings: IngressSettings) -> dict[str, Any]:
    """Return the schemas of the two routes' requests and answers."""
    _, components = msgspec.json.schema_components(
        [MessageRequest, Ack, AckResult, ProblemResult, ProblemBody], ref_template=REF
    )
    components["BatchResult"] = _batch_result()
    _limit(components["MessageRequest"], settings)
    return components


def hot_paths(settings: IngressSettings, payload_bytes: int | None) -> dict[str, Any]:
    """Return the two routes' paths.

    ``payload_bytes`` is the largest content of a form; ``None`` if there is no payload store.
    """
    first = _post_message()
    if payload_bytes is not None:
        first["requestBody"]["content"]["multipart/form-data"] = {"schema": _form(payload_bytes)}
    return {MESSAGES: {"post": first}, BATCH: {"post": _post_batch(settings)}}


def _form(most: int) -> dict[str, Any]:
    """Return the schema of a form: a message, and its content of at most ``most`` bytes."""
    return {
        "type": "object",
        "required": ["message", "content"],
        "properties": {
            "message": {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "A MessageRequest without content. It comes first.",
            },
            "content": {
                "type": "string",
                "format": "binary",
                "description": f"At most {most} bytes of any kind, streamed. Its Content-Type is "
                "the message's contentType, unless that is given. A Content-Digest (RFC 9530, "
                "sha-256) of the part or of the body is checked.",
            },
        },
    }


def _batch_result() -> dict[str, Any]:
    kinds = {"ack": _reference("AckResult"), "problem": _reference("ProblemResult")}
    return {
        "description": "One item's answer: `kind` says which of the two it is.",
        "oneOf": list(kinds.values()),
        "discriminator": {
            "propertyName": "kind",
            "mapping": {kind: reference["$ref"] for kind, reference in kinds.items()},
        },
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}


def _limit(schema: dict[str, Any], settings: IngressSettings) -> None:
    members = schema["properties"]
    most = settings.ingress_max_content_bytes
    members["content"]["description"] = f"At most {most} bytes of UTF-8."
    members["content"]["maxLength"] = most
    members["contentType"]["default"] = "text"
    members["recipientIds"]["maxItems"] = settings.ingress_max_recipients
    members["clientMessageId"]["description"] = (
        "The sender's own id of the message. With senderId and conversationId it is the "
        f"idempotency key, of {KEY_BYTES} bytes at most. Needed unless the Idempotency-Key header "
        "is sent."
    )


def _post_message() -> dict[str, Any]:
    ack = _reference("Ack")
    return {
        "tags": ["messages"],
        "summary": "Accept a message",
        "description": "Answered when the message is durable in the log. The same senderId, "
        "conversationId and clientMessageId have the same messageId for ever: a repeat is answered "
        "200 with the first one's id and time; the same with another body is refused. " + _CODINGS,
        "operationId": "postMessage",
        "parameters": [_idempotency_header(), *_tracing_headers()],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _reference("MessageRequest")}},
        },
        "responses": {
            "200": _answer(
                "The message was accepted before: the first answer, with the present state, or "
                "`unknown` if PostgreSQL did not answer.",
                ack,
            ),
            "202": _answer("Accepted.", ack),
            **_problems(*_COMMON, p.DIGEST, p.KEY_CONFLICT, *_FULL),
        },
    }


def _post_batch(settings: IngressSettings) -> dict[str, Any]:
    most = settings.ingress_max_batch_items
    request = _reference("MessageRequest")
    items = {"type": "array", "items": request, "minItems": 1, "maxItems": most}
    results = {"type": "array", "items": _reference("BatchResult")}
    lines = {"type": "string", "description": "One JSON object a line."}
    types = [media.decode() for media in MEDIA_TYPES]
    return {
        "tags": ["messages"],
        "summary": "Accept many messages",
        "description": f"1 to {most} messages, each with its clientMessageId, answered in order; "
        "a refused message does not affect the others. NDJSON is answered in "
        "NDJSON. If the log takes none of them, the whole answer is 503. " + _CODINGS,
        "operationId": "postMessages",
        "parameters": _tracing_headers(),
        "requestBody": {
            "required": True,
            "content": {types[0]: {"schema": items}}
            | {media: {"schema": lines} for media in types[1:]},
        },
        "responses": {
            "207": {
                "description": "One result for each message, in order; `status` is its own.",
                "headers": {**CORRELATION, **RETRY},
                "content": {types[0]: {"schema": results}}
                | {media: {"schema": lines} for media in types[1:]},
            },
            **_problems(*_COMMON, p.DIGEST, *_FULL),
        },
    }


def _answer(description: str, schema: Any) -> dict[str, Any]:
    return {
        "description": description,
        "headers": CORRELATION,
        "content": {"application/json": {"schema": schema}},
    }


def _problems(*kinds: ProblemKind) -> dict[str, Any]:
    return {str(status): described for status, described in problems(*kinds).items()}


def _idempotency_header() -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "In place of clientMessageId: a quoted string, or a bare one.",
        "schema": {
            "type": "string",
            "pattern": f"^[!#-\\[\\]-~]{{1,{ID_LENGTH}}}$",
        },
    }


def _tracing_headers() -> list[dict[str, Any]]:
    return [
        {
            "name": "X-Correlation-ID",
            "in": "header",
            "description": "Returned with the answer and kept with the message.",
            "schema": {"type": "string", "pattern": CORRELATION_PATTERN},
        },
        {
            "name": "traceparent",
            "in": "header",
            "description": "W3C Trace Context; a broken one is ignored.",
            "schema": {"type": "string"},
        },
    ]
