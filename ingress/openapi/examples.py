"""Examples of a first message, its answers and the usual refusals."""

from __future__ import annotations

from typing import Any

from ingress.openapi.operations import operations
from ingress.schema.problems import INVALID, KEY_CONFLICT, MEDIA_TYPE, OUTCOME_UNKNOWN, ProblemKind

__all__ = ["add_examples"]

_JSON = "application/json"
_ID = "33b0c4a6-9d5e-5c07-8a3e-4f1f6f0c9f11"
_AT = "2026-11-24T20:18:19.123456Z"
_MESSAGE = {
    "conversationId": "test_conv_001",
    "senderId": "user_001",
    "content": "Hello!",
    "contentType": "text",
    "clientMessageId": "hello_001",
    "recipientIds": ["user_002"],
}
_ACK = {
    "messageId": _ID,
    "state": "pending",
    "acceptedAt": _AT,
    "idempotentHit": False,
    "correlationId": _ID,
}
_REPEAT = {**_ACK, "state": "persisted", "idempotentHit": True}
_PERSISTED = {
    "messageId": _ID,
    **_MESSAGE,
    "acceptedAt": _AT,
    "persistedAt": "2026-11-24T20:18:19.131072Z",
    "correlationId": _ID,
    "traceId": None,
}
_RECEIPT = {"userId": "user_002", "state": "read"}
_REDRIVE = "7c1a4f6e-50f2-4bb0-9d0c-0c6a4ad3b2aa"


def _problem(kind: ProblemKind, detail: str, **members: Any) -> dict[str, Any]:
    return {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        **members,
        "correlationId": _ID,
    }


_FAULTY = _problem(
    INVALID,
    "senderId is missing.",
    errors=[
        {
            "field": "senderId",
            "message": "is missing",
            "remedy": "Send a string of 1 to 256 characters.",
        }
    ],
)
_CONFLICT = _problem(
    KEY_CONFLICT, "The key user_001:test_conv_001:hello_001 stands for another body."
)
_UNKNOWN = _problem(OUTCOME_UNKNOWN, "The log did not answer in time.")

_ASKED: dict[str, dict[str, Any]] = {
    "postMessage": {_JSON: _MESSAGE},
    "postMessages": {_JSON: [_MESSAGE]},
    "postReceipt": {_JSON: _RECEIPT},
    "redriveDeadLetters": {_JSON: {"filter": {"reason": "rejected"}, "dryRun": True}},
    "discardDeadLetters": {_JSON: {"ids": [4711], "why": "A test producer of last week."}},
}
_ANSWERED: dict[tuple[str, str], Any] = {
    ("postMessage", "202"): _ACK,
    ("postMessage", "200"): _REPEAT,
    ("postMessages", "207"): [
        {"kind": "ack", "status": 202, **_ACK},
        {"kind": "problem", **_CONFLICT},
    ],
    ("postReceipt", "202"): {
        "messageId": _ID,
        **_RECEIPT,
        "at": _AT,
        "idempotentHit": False,
        "correlationId": _ID,
    },
    ("listReceipts", "200"): {"items": [{**_RECEIPT, "at": _AT}], "hasMore": False},
    ("getMessage", "200"): {
        **_PERSISTED,
        "state": "persisted",
        "traceUrl": None,
        "positions": [{"transport": "redis", "partition": 7, "offset": "1795658299123-0"}],
        "attempts": 1,
        "receipts": [{**_RECEIPT, "at": _AT}],
    },
    ("listMessages", "200"): {"items": [_PERSISTED], "next": "MTIz", "hasMore": False},
    ("redriveDeadLetters", "200"): {
        "letters": 12,
        "byReason": {"rejected": 12},
        "redrivenTooOften": 0,
    },
    ("redriveDeadLetters", "202"): {"redriveId": _REDRIVE},
    ("discardDeadLetters", "200"): {"discarded": 1, "upTo": 4812},
    ("getHealth", "200"): {"status": "ok"},
}
_REFUSED = {
    ("postMessage", "422"): {"invalid-fields": _FAULTY, "idempotency-conflict": _CONFLICT},
    ("postMessage", "503"): {"outcome-unknown": _UNKNOWN},
    ("postMessages", "503"): {"outcome-unknown": _UNKNOWN},
}


def add_examples(document: dict[str, Any]) -> None:
    """Add the examples to their operations' requests and answers."""
    for _, _, operation in operations(document):
        name = operation["operationId"]
        for media, example in _ASKED.get(name, {}).items():
            operation["requestBody"]["content"][media]["example"] = example
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if (name, status) in _ANSWERED:
                content[_JSON]["example"] = _ANSWERED[name, status]
            if (name, status) in _REFUSED:
                named = _REFUSED[name, status]
                examples = {kind: {"value": value} for kind, value in named.items()}
                content[MEDIA_TYPE]["examples"] = examples
