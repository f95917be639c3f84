"""The pages that explain problem types. The ``type`` of a problem points to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from ingress.routes.descriptions import problems
from ingress.routes.models import ProblemType, ProblemTypes
from ingress.schema.problems import INVALID, NOT_FOUND, Problem, ProblemKind, kinds

__all__ = ["problem_types_router"]


def problem_types_router() -> APIRouter:
    """Return the routes that describe the problem types."""
    router = APIRouter(prefix="/problems", tags=["problems"])

    @router.get(
        "",
        summary="List the problem types",
        description="Each with its status and what a client should do.",
        operation_id="listProblemTypes",
    )
    async def list_problem_types() -> ProblemTypes:
        return ProblemTypes(items=[_view(kind) for kind in kinds().values()])

    @router.get(
        "/{name}",
        summary="Read what a problem type means",
        description="The `type` of every problem document is the address of this.",
        operation_id="getProblemType",
        responses=problems(INVALID, NOT_FOUND),
    )
    async def get_problem_type(name: Annotated[str, Path(max_length=64)]) -> ProblemType:
        kind = kinds().get(name)
        if kind is None:
            raise Problem(NOT_FOUND, "There is no problem type of that name.")
        return _view(kind)

    return router


def _view(kind: ProblemKind) -> ProblemType:
    return ProblemType(type=kind.uri, title=kind.title, status=kind.status, remedy=kind.remedy)
