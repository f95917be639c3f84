"""Helpers that describe FastAPI's routes: their problems and bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request
from fastapi.params import Depends as DependsParameter

from ingress.schema.problems import MEDIA_TYPE, ProblemKind
from ingress.web.headers import media_type

__all__ = [
    "PROBLEM_SCHEMA",
    "json_body",
    "problems",
]

PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}


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


def _json(request: Request) -> None:
    media_type(dict(request.scope["headers"]), (b"application/json",))


def json_body() -> DependsParameter:
    """Return a dependency that answers 415 if the body is not JSON."""
    checked: Callable[[Request], None] = _json
    dependency: DependsParameter = Depends(checked)
    return dependency
