"""The routes of the migration: its state, its gates, and its steps."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from msgspec.structs import replace

from ingress.console.migration import (
    Direction,
    MigrationView,
    StandView,
    StepRequest,
    StepView,
)
from ingress.console.routes.models import CancelRequest, Recorded
from ingress.console.routes.state import Console, Migration
from ingress.routes.descriptions import json_body, problems
from ingress.routes.state import Caller
from ingress.schema import problems as p
from ingress.schema.problems import STATE
from ingress.web.access import ADMIN, OperatorKey, shows_messages

__all__ = ["router"]

_WRITE = (p.MALFORMED, p.INVALID, p.TOO_LARGE, p.MEDIA, STATE, p.DATABASE_UNAVAILABLE)
_UNAVAILABLE = (p.DATABASE_UNAVAILABLE, p.LOG_UNAVAILABLE)

router = APIRouter(prefix="/api/console/migration", tags=["migration"])


@router.get(
    "",
    summary="See where the migration stands",
    description="The phases, the state, the history and the latest comparison of the logs, "
    "without the gates. A key without the scope `read` gets no samples of the comparison.",
    operation_id="getMigration",
    responses=problems(p.DATABASE_UNAVAILABLE),
)
async def get_migration(migration: Migration, key: OperatorKey) -> MigrationView:
    view = await migration.view()
    if view.parity is None or shows_messages(key):
        return view
    return replace(view, parity=replace(view.parity, samples=[]))


@router.get(
    "/gates",
    summary="Judge the gates of the next step, or of the step back",
    description="Changes nothing. Comparing the logs takes its time; an answer is kept for "
    "some seconds. A key without the scope `read` gets verdicts and reasons without evidence.",
    operation_id="judgeGates",
    responses=problems(p.INVALID, STATE, *_UNAVAILABLE),
)
async def judge_gates(
    migration: Migration, key: OperatorKey, direction: Annotated[Direction, Query()] = "forward"
) -> StepView:
    step = await migration.judged(direction)
    if shows_messages(key):
        return step
    return replace(step, gates=[replace(gate, evidence={}) for gate in step.gates])


@router.post(
    "/steps",
    status_code=202,
    summary="Begin a step: the processes are to be restarted with the next settings",
    description="Refused (409) while a gate is not green. To pass an unknown gate, name it in "
    "`acceptUnknown` with a reason; to pass a red one, name it in `overrule` with a reason. Also "
    "refused if the state has changed since `epoch`.",
    operation_id="beginStep",
    dependencies=[Depends(ADMIN.key), json_body()],
    responses=problems(*_WRITE, p.LOG_UNAVAILABLE),
)
async def begin_step(
    body: StepRequest, who: Caller, console: Console, migration: Migration
) -> StandView:
    verb = "advance" if body.direction == "forward" else "roll back"
    async with console.actions.recorded(
        verb, who=who, target=f"migration, epoch {body.epoch}", why=body.why
    ) as entry:
        stand = await migration.begin(body, who=who)
        entry.result = f"step from phase {stand.phase} to {stand.target} begun"
    return stand


@router.post(
    "/complete",
    summary="Record that the step is complete, if every process is on its phase",
    description="`recorded` is false where some process is still on the phase before.",
    operation_id="completeStep",
    dependencies=[Depends(ADMIN.key)],
    responses=problems(STATE, *_UNAVAILABLE),
)
async def complete_step(who: Caller, migration: Migration) -> Recorded:
    return Recorded(recorded=await migration.complete(who=who))


@router.post(
    "/cancel",
    summary="Cancel the queued step",
    description="A step that waits for its gates has changed nothing yet. Refused (409) if the "
    "state has changed since `epoch`.",
    operation_id="cancelStep",
    dependencies=[Depends(ADMIN.key), json_body()],
    responses=problems(*_WRITE),
)
async def cancel_step(
    body: CancelRequest, who: Caller, console: Console, migration: Migration
) -> StandView:
    async with console.actions.recorded(
        "cancel step", who=who, target="the queued step", why=body.why
    ) as entry:
        stand = await migration.cancel(who=who, why=body.why, epoch=body.epoch)
        entry.result = "taken away"
    return stand
