"""The state that FastAPI's routes share, and the dependencies that give routes this state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from ingress.accept.group_commit import GroupCommit
from ingress.accept.receipts import Receipts
from ingress.messages import Messages
from ingress.web.access import AdminKey
from ingress.web.browser import MARK
from persistence.database.pool import Pool
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.redrive import Redriver
from persistence.operator_actions import Actions
from persistence.payloads.store import PayloadStore

__all__ = ["Caller", "Routes", "RoutesState"]


@dataclass(frozen=True, kw_only=True)
class RoutesState:
    """The parts of a process that its FastAPI routes call."""

    messages: Messages
    commits: GroupCommit
    receipts: Receipts
    letters: DeadLetters
    redriver: Redriver
    actions: Actions
    pool: Pool
    reads: Pool
    payloads: PayloadStore | None
    trace_url: str | None
    timeout_seconds: float


async def _state(request: Request) -> RoutesState:
    return cast("RoutesState", request.app.state.routes)


Routes = Annotated[RoutesState, Depends(_state)]


async def _caller(request: Request, key: AdminKey) -> str:
    door = "console" if MARK in dict(request.scope["headers"]) else "api"
    return f"{door}:{key.name}" if key else door


Caller = Annotated[str, Depends(_caller)]
"""``console`` or ``api`` with the name of the API key, for the record of actions. It requires the
scope admin."""
