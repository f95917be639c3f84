"""The descriptions of answers' headers: ``X-Correlation-ID`` and ``Retry-After``."""

from __future__ import annotations

from typing import Any

from ingress.openapi.operations import operations
from ingress.schema.problems import MEDIA_TYPE

__all__ = ["CORRELATION", "RETRY", "add_headers"]

CORRELATION = {
    "X-Correlation-ID": {
        "description": "The request's own, if it sent one; else the message's.",
        "schema": {"type": "string"},
    }
}
RETRY = {
    "Retry-After": {
        "description": "Seconds to wait.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}
_UNAVAILABLE = "503"


def add_headers(document: dict[str, Any]) -> None:
    """Describe the headers of every problem: a correlation id, and with 503 ``Retry-After``."""
    for _, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if MEDIA_TYPE in response.get("content", {}):
                response["headers"] = CORRELATION | (RETRY if status == _UNAVAILABLE else {})
