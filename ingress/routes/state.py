"""The state that FastAPI's routes share, and the dependencies that give routes this state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from ingress.accept.group_commit import GroupCommit
from ingress.accept.receipts import Receipts
from ingress.messages import Messages
from ingress.routes.descriptions import caller
from ingress.web.auth import ApiKey, Authenticator, Scope
from ingress.web.browser import request_key
from persistence.database.pool import Pool
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.redrive import Redriver
from persistence.operator_actions import Actions
from persistence.payloads.store import PayloadStore

__all__ = ["ADMIN", "READER", "Caller", "ProduceKey", "ReadKey", "Routes", "RoutesState"]


@dataclass(frozen=True, kw_only=True)
class RoutesState:
    """The parts of a process that its FastAPI routes call."""

    auth: Authenticator
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


async def _reader(request: Request, routes: Routes) -> None:
    headers = dict(request.scope["headers"])
    request_key(routes.auth, request.method, headers, Scope.READ, Scope.ADMIN)


async def _admin(request: Request, routes: Routes) -> None:
    request_key(routes.auth, request.method, dict(request.scope["headers"]), Scope.ADMIN)


async def _read_key(request: Request, routes: Routes) -> ApiKey | None:
    headers = dict(request.scope["headers"])
    return request_key(routes.auth, request.method, headers, Scope.READ, limited=True)


async def _produce_key(request: Request, routes: Routes) -> ApiKey | None:
    headers = dict(request.scope["headers"])
    return request_key(routes.auth, request.method, headers, Scope.PRODUCE, limited=True)


async def _caller(request: Request, routes: Routes) -> str:
    return caller(routes.auth, request)


READER = Depends(_reader)
"""A dependency that requires a key with the scope read or admin, and without a prefix."""
ADMIN = Depends(_admin)
"""A dependency that requires a key with the scope admin."""
ReadKey = Annotated[ApiKey | None, Depends(_read_key)]
"""A key with the scope read, perhaps with a prefix; ``None`` if no keys are needed."""
ProduceKey = Annotated[ApiKey | None, Depends(_produce_key)]
"""A key with the scope produce, perhaps with a prefix; ``None`` if no keys are needed."""
Caller = Annotated[str, Depends(_caller)]
"""The caller for the record of actions; see ``descriptions.caller``."""
