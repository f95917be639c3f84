"""The access that each route declares; a document's security schemes and error answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from ingress.accept.post_batch import BATCH
from ingress.accept.post_message import MESSAGES
from ingress.openapi.operations import operations
from ingress.routes.descriptions import problems
from ingress.schema import problems as p
from ingress.web.access import PRODUCE, Access

__all__ = ["RouteAccess", "add_access", "add_scopes", "route_access"]

_SCOPE = "x-crossfade-scope"
"""The member of an operation with the scopes that it needs."""

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


class RouteAccess(NamedTuple):
    """A route, and the conditions that a request's key has to meet. Without any, it needs no key.

    ``path`` has the names of its parameters in braces.
    """

    path: str
    method: str
    needs: tuple[Access, ...]

    @property
    def scopes(self) -> str:
        """The scopes that a key needs, as text; empty if the route needs no key."""
        return " and ".join(" or ".join(access.scopes) for access in self.needs)


def route_access(app: FastAPI) -> list[RouteAccess]:
    """Return every route of ``app`` and of the hot path in front of it, by path."""
    found = [RouteAccess(path, "POST", (PRODUCE,)) for path in (MESSAGES, BATCH)]
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        assert isinstance(route, APIRoute), f"{context.path}: another kind of route has no access"
        needs = tuple(dict.fromkeys(_declared(route.dependant)))
        found += [
            RouteAccess(route.path_format, method, needs) for method in sorted(route.methods or ())
        ]
    return sorted(found, key=lambda access: access[:2])


def _declared(dependant: Dependant) -> Iterator[Access]:
    owner = getattr(dependant.call, "__self__", None)
    if isinstance(owner, Access):
        yield owner
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def add_scopes(document: dict[str, Any], app: FastAPI) -> None:
    """Mark the operations of ``document`` that need a key with the scopes that they need."""
    for access in route_access(app):
        operation = document["paths"].get(access.path, {}).get(access.method.lower())
        if operation is not None and access.needs:
            operation[_SCOPE] = access.scopes


def add_access(document: dict[str, Any], *, required: bool) -> None:
    """Mark the operations that need a key, and add their error answers.

    If no keys are configured, they are marked as optional, so that a client that is generated from
    a developer's own service can still send a key.
    """
    document["components"]["securitySchemes"] = _SCHEMES
    document["security"] = []
    for path, method, operation in operations(document):
        if _SCOPE in operation:
            none: list[dict[str, list[str]]] = [] if required else [{}]
            operation["security"] = [*none, {"bearer": []}, {"apiKey": []}]
            if required:
                operation["responses"] |= _described(p.UNAUTHENTICATED, p.FORBIDDEN)
                # A request that has two keys.
                for status, described in _described(p.MALFORMED_REQUEST).items():
                    operation["responses"].setdefault(status, described)
        if not required and path not in _FOR_PROBES:
            kinds = (p.MISDIRECTED,) if method == "get" else (p.MISDIRECTED, p.FOREIGN)
            operation["responses"] |= _described(*kinds)


def _described(*kinds: p.ProblemKind) -> dict[str, Any]:
    return {str(status): described for status, described in problems(*kinds).items()}
