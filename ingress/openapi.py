"""The OpenAPI document: FastAPI's own, and the two routes that FastAPI never sees.

Schemas of the hot path come from the very structs that decode and encode it.
``tests/ingress/test_openapi.py`` holds the document against what is served.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI

from ingress import problems as p
from ingress.auth import Scope
from ingress.batch import BATCH, MEDIA_TYPES
from ingress.headers import CORRELATION_PATTERN
from ingress.hot_path import MESSAGES
from ingress.problems import MEDIA_TYPE, Kind, ProblemBody
from ingress.requests import ID_LENGTH, KEY_BYTES, MessageRequest
from ingress.responses import Ack, AckResult
from ingress.routes.described import SCOPE, problems
from ingress.settings import IngressSettings

__all__ = ["install"]

_REF = "#/components/schemas/{name}"
_HEADERS = {
    "X-Correlation-ID": {
        "description": "The request's own where it sent one, else the message's.",
        "schema": {"type": "string"},
    }
}
_RETRY = {
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}
_COMMON = (p.TOO_LARGE, p.TIMED_OUT, p.MEDIA, p.MALFORMED, p.INVALID)
_FULL = (p.OVERLOADED, p.LOG_UNAVAILABLE, p.OUTCOME_UNKNOWN)


def install(app: FastAPI, *, settings: IngressSettings, keys_required: bool) -> None:
    """Make ``app.openapi`` return the whole document."""
    fastapis_own = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = fastapis_own()
            _add_hot_path(document, settings)
            _add_keys(document, required=keys_required)
            _add_problem_headers(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_hot_path(document: dict[str, Any], settings: IngressSettings) -> None:
    (request, ack, *results), components = msgspec.json.schema_components(
        [MessageRequest, Ack, AckResult, ProblemBody], ref_template=_REF
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components)
    schemas["Problem"] = schemas.pop("ProblemBody") | {"title": "Problem"}
    schemas["BatchResult"] = {"anyOf": _renamed(results)}
    _limit(schemas["MessageRequest"], settings)
    paths = document["paths"]
    paths[MESSAGES] = {"post": _post_message(request, ack)}
    paths[BATCH] = {"post": _post_batch(request, settings)}
    document["paths"] = dict(sorted(paths.items()))


def _renamed(schema: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(schema).replace(b"ProblemBody", b"Problem"))


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


def _post_message(request: Any, ack: Any) -> dict[str, Any]:
    return {
        "tags": ["messages"],
        "summary": "Accept a message",
        "description": "Answered when the message is durable in the log. The same senderId, "
        "conversationId and clientMessageId have the same messageId for ever: a repeat is answered "
        "200 with the first one's id and time; the same with another body is refused.",
        "operationId": "postMessage",
        SCOPE: Scope.PRODUCE.value,
        "parameters": [_idempotency_header(), *_tracing_headers()],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request, "example": _EXAMPLE}},
        },
        "responses": {
            "200": _answer("Accepted before; the first one's answer, in its state now.", ack),
            "202": _answer("Accepted.", ack),
            **_problems(*_COMMON, p.KEY_CONFLICT, *_FULL),
        },
    }


def _post_batch(request: Any, settings: IngressSettings) -> dict[str, Any]:
    most = settings.ingress_max_batch_items
    items = {"type": "array", "items": request, "minItems": 1, "maxItems": most}
    results = {"type": "array", "items": {"$ref": _REF.format(name="BatchResult")}}
    lines = {"type": "string", "description": "One JSON object a line."}
    types = [media.decode() for media in MEDIA_TYPES]
    return {
        "tags": ["messages"],
        "summary": "Accept many messages",
        "description": f"1 to {most} messages, each with its clientMessageId, answered in order; "
        "one that is refused sinks no other. NDJSON is answered in NDJSON. Where the log takes "
        "none of them the whole answer is 503.",
        "operationId": "postMessages",
        SCOPE: Scope.PRODUCE.value,
        "parameters": _tracing_headers(),
        "requestBody": {
            "required": True,
            "content": {types[0]: {"schema": items, "example": [_EXAMPLE]}}
            | {media: {"schema": lines} for media in types[1:]},
        },
        "responses": {
            "207": {
                "description": "One result for each message, in order; `status` is its own.",
                "headers": {**_HEADERS, **_RETRY},
                "content": {types[0]: {"schema": results}}
                | {media: {"schema": lines} for media in types[1:]},
            },
            **_problems(*_COMMON, *_FULL),
        },
    }


def _answer(description: str, schema: Any) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _HEADERS,
        "content": {"application/json": {"schema": schema}},
    }


def _problems(*kinds: Kind) -> dict[str, Any]:
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


def _add_problem_headers(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if MEDIA_TYPE in response.get("content", {}):
                    response["headers"] = _HEADERS | (_RETRY if status == "503" else {})


def _add_keys(document: dict[str, Any], *, required: bool) -> None:
    """Say which operations need a key; where none is configured, what the guard refuses."""
    if not required:
        _add_guard(document)
        return
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": _LIMITED},
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": _LIMITED,
        },
    }
    for path in document["paths"].values():
        for operation in path.values():
            if SCOPE in operation:
                operation["security"] = [{"bearer": []}, {"apiKey": []}]
                operation["responses"] |= _problems(p.UNAUTHENTICATED, p.FORBIDDEN)


def _add_guard(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        if path in {"/healthz", "/readyz"}:
            continue
        for method, operation in methods.items():
            kinds = (p.MISDIRECTED,) if method == "get" else (p.MISDIRECTED, p.FOREIGN)
            operation["responses"] |= _problems(*kinds)


_LIMITED = (
    "A key may be limited to senders or to conversations whose id begins with a prefix. What it "
    "sends for others is refused (403), messages of others are not there for it (404), and what is "
    "about the messages of all (dead letters, status, migration) needs a key without a prefix."
)
_EXAMPLE = {
    "conversationId": "test_conv_001",
    "senderId": "user_001",
    "content": "Hello, Phase 3!",
    "contentType": "text",
    "clientMessageId": "client_msg_001",
    "recipientIds": ["user_002"],
}
