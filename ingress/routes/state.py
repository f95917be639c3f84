"""State of the ordinary routes: built once, kept on the application's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from ingress.accept.group_commit import GroupCommit
from ingress.accept.receipts import Receipts
from ingress.messages import Messages
from ingress.routes.described import caller
from ingress.web.auth import ApiKey, Authenticator, Scope
from ingress.web.browser import visitor
from persistence.database.pool import Pool
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.redrive import Redriver
from persistence.operator_actions import Actions
from persistence.payloads.store import PayloadStore

__all__ = ["ADMIN", "READER", "Caller", "ProduceKey", "ReadKey", "Routes", "RoutesState"]


@dataclass(frozen=True, kw_only=True)
class RoutesState:
    """The parts of one process that its ordinary routes call."""

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
    visitor(routes.auth, request.method, headers, Scope.READ, Scope.ADMIN)


async def _admin(request: Request, routes: Routes) -> None:
    visitor(routes.auth, request.method, dict(request.scope["headers"]), Scope.ADMIN)


async def _read_key(request: Request, routes: Routes) -> ApiKey | None:
    headers = dict(request.scope["headers"])
    return visitor(routes.auth, request.method, headers, Scope.READ, limited=True)


async def _produce_key(request: Request, routes: Routes) -> ApiKey | None:
    headers = dict(request.scope["headers"])
    return visitor(routes.auth, request.method, headers, Scope.PRODUCE, limited=True)


async def _caller(request: Request, routes: Routes) -> str:
    return caller(routes.auth, request)


READER = Depends(_reader)
"""Only for keys that may read everything, or administrate."""
ADMIN = Depends(_admin)
"""Only for keys that may administrate."""
ReadKey = Annotated[ApiKey | None, Depends(_read_key)]
"""A key that may read, perhaps limited to a prefix; ``None`` where no keys are needed."""
ProduceKey = Annotated[ApiKey | None, Depends(_produce_key)]
"""A key that may send, perhaps limited to a prefix; ``None`` where no keys are needed."""
Caller = Annotated[str, Depends(_caller)]
"""The name of the caller's API key, for the record of actions."""
