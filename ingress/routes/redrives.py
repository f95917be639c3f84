"""The routes that start, list, cancel and resume redrives (dead letters back into the log)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response

from ingress.routes.dead_letter_models import (
    RedriveAnswer,
    RedriveRequest,
    Redrives,
)
from ingress.routes.dead_letters import selection_of
from ingress.routes.descriptions import json_body, problems
from ingress.routes.models import Reasoned
from ingress.routes.state import Caller, Routes, RoutesState
from ingress.schema import problems as p
from ingress.schema.problems import NOT_FOUND, STATE, Problem
from ingress.schema.structs import AS_ANSWER
from ingress.web.access import ADMIN, OPERATE
from persistence.dead_letters.redrive import RedriveProgress, Redriver
from persistence.dead_letters.selection import described
from persistence.jobs.table import JobExists

__all__ = ["router"]

_PREFIX = "/api/dead-letters"
RedriveId = Annotated[UUID, Path(alias="redriveId")]
Why = Annotated[Reasoned | None, Query(description="Kept on record with who asked and when.")]
_WRITE = (p.MALFORMED, p.INVALID, p.TOO_LARGE, p.MEDIA, p.DATABASE_UNAVAILABLE)

_Shown = Annotated[RedriveProgress, AS_ANSWER]

router = APIRouter(prefix=_PREFIX, tags=["dead letters"])


@router.post(
    "/redrive",
    status_code=202,
    summary="Append dead letters to the primary log again",
    description="In their order, at the rate asked for. A redrive can't double a message: its "
    "key decides. A letter that fails again becomes a new one. With a `redriveId` of your own, "
    "the request can be sent again: it begins one redrive.",
    operation_id="redriveDeadLetters",
    dependencies=[Depends(ADMIN.key), json_body()],
    responses={
        200: {"model": RedriveAnswer, "description": "With `dryRun`: what it would take."},
        **problems(*_WRITE, STATE),
    },
)
async def redrive_dead_letters(
    body: RedriveRequest, response: Response, routes: Routes, who: Caller
) -> RedriveAnswer:
    selection = selection_of(body.ids, body.filter)
    if body.dry_run:
        preview = await routes.redriver.preview(selection, most_redrives=body.most_redrives)
        response.status_code = 200
        return RedriveAnswer.of(preview)
    async with routes.actions.recorded(
        "redrive", who=who, target=described(selection), why=body.why
    ) as entry:
        try:
            identifier = await routes.redriver.start(
                selection,
                by=who,
                rate=body.rate_per_second,
                most_redrives=body.most_redrives,
                identifier=body.redrive_id,
            )
        except JobExists as error:
            raise Problem(STATE, f"redriveId: {error}. Choose another one.") from error
        entry.result = f"redrive {identifier} begun"
    response.headers["Location"] = f"{_PREFIX}/redrives/{identifier}"
    return RedriveAnswer(redrive_id=str(identifier))


@router.get(
    "/redrives",
    summary="List the latest redrives",
    description="The latest 20, newest first.",
    operation_id="listRedrives",
    dependencies=[Depends(OPERATE.key)],
    responses=problems(p.DATABASE_UNAVAILABLE),
)
async def list_redrives(routes: Routes) -> Redrives:
    return Redrives(items=await routes.redriver.recent())


@router.get(
    "/redrives/{redriveId}",
    summary="See how far a redrive is",
    description="Counts go up while it runs. One that has stopped and has work left is "
    "`resumable`.",
    operation_id="getRedrive",
    dependencies=[Depends(OPERATE.key)],
    responses=problems(p.INVALID, NOT_FOUND, p.DATABASE_UNAVAILABLE),
)
async def get_redrive(redrive_id: RedriveId, routes: Routes) -> _Shown:
    return await _shown(routes.redriver, redrive_id)


@router.post(
    "/redrives/{redriveId}/cancel",
    summary="Stop a redrive after the batch in hand",
    description="Letters that were appended again stay so; the others stay pending.",
    operation_id="cancelRedrive",
    dependencies=[Depends(ADMIN.key)],
    responses=problems(p.INVALID, NOT_FOUND, STATE, p.DATABASE_UNAVAILABLE),
)
async def cancel_redrive(
    redrive_id: RedriveId, routes: Routes, who: Caller, why: Why = None
) -> _Shown:
    return await _steer(routes, redrive_id, "cancel", routes.redriver.cancel, by=(who, why))


@router.post(
    "/redrives/{redriveId}/resume",
    status_code=202,
    summary="Resume a redrive whose process has stopped",
    description="It continues where it stopped. A letter that was appended twice is still one "
    "message.",
    operation_id="resumeRedrive",
    dependencies=[Depends(ADMIN.key)],
    responses=problems(p.INVALID, NOT_FOUND, STATE, p.DATABASE_UNAVAILABLE),
)
async def resume_redrive(
    redrive_id: RedriveId, routes: Routes, who: Caller, why: Why = None
) -> _Shown:
    return await _steer(routes, redrive_id, "resume", routes.redriver.resume, by=(who, why))


async def _shown(redriver: Redriver, identifier: UUID) -> RedriveProgress:
    progress = await redriver.progress(identifier)
    if progress is None:
        raise Problem(NOT_FOUND, f"There is no redrive {identifier}.")
    return progress


async def _steer(
    routes: RoutesState,
    identifier: UUID,
    verb: str,
    act: Callable[[UUID], Awaitable[bool]],
    *,
    by: tuple[str, str | None],
) -> RedriveProgress:
    """Cancel or resume a redrive, and record the action.

    Args:
        routes: The parts that routes call.
        identifier: The redrive's id.
        verb: The action's name, ``cancel`` or ``resume``.
        act: Performs the action; returns whether the redrive's state allowed it.
        by: The caller, and the reason if one was given.

    Raises:
        Problem: There is no such redrive (404), or its state does not allow the action (409).
    """
    await _shown(routes.redriver, identifier)
    who, why = by
    target = f"redrive {identifier}"
    async with routes.actions.recorded(f"{verb} redrive", who=who, target=target, why=why) as entry:
        done = await act(identifier)
        view = await _shown(routes.redriver, identifier)
        entry.result = f"{view.redriven} of {view.total} redriven" if done else f"is {view.state}"
    if not done:
        raise Problem(STATE, f"Redrive {identifier} is {view.state}.")
    return view
