"""The migration over HTTP: where it stands, its gates, and a step taken on green ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from ingress.console.migration import (
    Direction,
    MigrationActions,
    MigrationView,
    StandView,
    StepRequest,
    StepView,
)
from ingress.console.models import CancelRequest, Recorded
from ingress.routes.described import caller, json_body, needs, problems, scoped
from ingress.schema import problems as p
from ingress.schema.problems import STATE
from ingress.web.auth import Authenticator, Scope
from persistence.operator_actions import Actions

__all__ = ["migration_router"]

_WRITE = (p.MALFORMED, p.INVALID, p.TOO_LARGE, p.MEDIA, STATE, p.DATABASE_UNAVAILABLE)
_UNAVAILABLE = (p.DATABASE_UNAVAILABLE, p.LOG_UNAVAILABLE)


def migration_router(*, auth: Authenticator, desk: MigrationActions, actions: Actions) -> APIRouter:
    """Return the routes of the migration."""
    router = APIRouter(prefix="/api/console/migration", tags=["migration"])
    reader, admin = needs(auth, Scope.READ, Scope.ADMIN), needs(auth, Scope.ADMIN)

    @router.get(
        "",
        summary="See where the migration stands",
        description="The phases, the state, the history and the latest comparison of the logs, "
        "without the gates.",
        operation_id="getMigration",
        dependencies=[reader],
        responses=problems(p.DATABASE_UNAVAILABLE),
        openapi_extra=scoped(Scope.READ),
    )
    async def get_migration() -> MigrationView:
        return await desk.view()

    @router.get(
        "/gates",
        summary="Judge the gates of the next step, or of the step back",
        description="Changes nothing. Comparing the logs takes its time; an answer is kept for "
        "some seconds.",
        operation_id="judgeGates",
        dependencies=[reader],
        responses=problems(p.INVALID, STATE, *_UNAVAILABLE),
        openapi_extra=scoped(Scope.READ),
    )
    async def judge_gates(direction: Annotated[Direction, Query()] = "forward") -> StepView:
        return await desk.judged(direction)

    @router.post(
        "/steps",
        status_code=202,
        summary="Begin a step: the processes are to be restarted with the next settings",
        description="Refused (409) while a gate is not green, unless it is named in `overrides` "
        "with a reason of its own, or if the state has changed since `epoch`.",
        operation_id="beginStep",
        dependencies=[admin, json_body()],
        responses=problems(*_WRITE, p.LOG_UNAVAILABLE),
        openapi_extra=scoped(Scope.ADMIN),
    )
    async def begin_step(body: StepRequest, request: Request) -> StandView:
        who = caller(auth, request)
        verb = "advance" if body.direction == "forward" else "roll back"
        async with actions.recorded(
            verb, who=who, target=f"migration, epoch {body.epoch}", why=body.why
        ) as entry:
            stand = await desk.begin(body, who=who)
            entry.result = f"step from phase {stand.phase} to {stand.target} begun"
        return stand

    @router.post(
        "/complete",
        summary="Record that every process is on the phase, if that is so",
        description="`recorded` is false where some process is still on the phase before.",
        operation_id="completeStep",
        dependencies=[admin],
        responses=problems(STATE, *_UNAVAILABLE),
        openapi_extra=scoped(Scope.ADMIN),
    )
    async def complete_step(request: Request) -> Recorded:
        return Recorded(recorded=await desk.complete(who=caller(auth, request)))

    @router.post(
        "/cancel",
        summary="Take the queued step away",
        description="Nothing has changed yet while a step waits for its gates.",
        operation_id="cancelStep",
        dependencies=[admin, json_body()],
        responses=problems(*_WRITE),
        openapi_extra=scoped(Scope.ADMIN),
    )
    async def cancel_step(body: CancelRequest, request: Request) -> StandView:
        who = caller(auth, request)
        async with actions.recorded(
            "cancel step", who=who, target="the queued step", why=body.why
        ) as entry:
            stand = await desk.cancel(who=who, why=body.why)
            entry.result = "taken away"
        return stand

    return router
