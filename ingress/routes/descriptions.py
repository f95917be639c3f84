"""Helpers that describe FastAPI's routes: their scopes, problems and bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request
from fastapi.params import Depends as DependsParameter

from ingress.schema.problems import MEDIA_TYPE, ProblemKind
from ingress.web.auth import Authenticator, Scope
from ingress.web.browser import MARK, request_key
from ingress.web.headers import media_type

__all__ = [
    "PROBLEM_SCHEMA",
    "SCOPE",
    "caller",
    "json_body",
    "problems",
    "scoped",
]

PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
SCOPE = "x-crossfade-scope"
"""Marks an operation with the scope that it needs. ``ingress.openapi`` adds its security."""


def problems(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's ``responses`` for these problem types."""
    described: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        before = described.get(kind.status)
        text = f"`{kind.name}`: {kind.title}."
        described[kind.status] = {
            "description": f"{before['description']} {text}" if before else text,
            "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}},
        }
    return described


def caller(auth: Authenticator, request: Request) -> str:
    """Return ``console`` or ``api`` with the name of the API key, for the record of actions."""
    headers = dict(request.scope["headers"])
    key = request_key(auth, request.method, headers, Scope.ADMIN)
    door = "console" if MARK in headers else "api"
    return f"{door}:{key.name}" if key else door


def scoped(scope: Scope) -> dict[str, Any]:
    """Return the ``openapi_extra`` of an operation that needs ``scope``."""
    return {SCOPE: scope.value}


def _json(request: Request) -> None:
    media_type(dict(request.scope["headers"]), (b"application/json",))


def json_body() -> DependsParameter:
    """Return a dependency that answers 415 if the body is not JSON."""
    checked: Callable[[Request], None] = _json
    dependency: DependsParameter = Depends(checked)
    return dependency
