"""A document's security schemes, and the error answers that follow from them."""

from __future__ import annotations

from typing import Any

from ingress.openapi.operations import operations
from ingress.routes.descriptions import SCOPE, problems
from ingress.schema import problems as p

__all__ = ["add_access"]

_FOR_PROBES = {"/healthz", "/readyz"}
_LIMITED = (
    "A key may be limited to senders or to conversations whose id begins with a prefix. With "
    "such a key, messages for others are refused (403), and messages of others are not found "
    "(404). Routes that concern all messages (dead letters, status, migration) need a key "
    "without a prefix."
)
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": _LIMITED},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": _LIMITED},
}


def add_access(document: dict[str, Any], *, required: bool) -> None:
    """Mark the operations that need a key, and add their error answers.

    If no keys are configured, they are marked as optional, so that a client that is generated from
    a developer's own service can still send a key.
    """
    document["components"]["securitySchemes"] = _SCHEMES
    document["security"] = []
    for path, method, operation in operations(document):
        scope = operation.get(SCOPE)
        if scope is not None:
            none: list[dict[str, list[str]]] = [] if required else [{}]
            operation["security"] = [*none, {"bearer": []}, {"apiKey": []}]
            if required:
                operation["responses"] |= _described(p.UNAUTHENTICATED, p.FORBIDDEN)
        if not required and path not in _FOR_PROBES:
            kinds = (p.MISDIRECTED,) if method == "get" else (p.MISDIRECTED, p.FOREIGN)
            operation["responses"] |= _described(*kinds)


def _described(*kinds: p.ProblemKind) -> dict[str, Any]:
    return {str(status): described for status, described in problems(*kinds).items()}
