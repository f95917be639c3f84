"""The state that the console's routes share, and the dependencies that give routes this state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from ingress.accept.group_commit import GroupCommit
from ingress.accept.intake import Intake
from ingress.console.last_hour import LastHour
from ingress.console.migration import MigrationActions
from ingress.console.readings import WatchedLog
from ingress.console.sampler import Sampler
from ingress.console.search.search import Search
from ingress.console.tail import Tail
from ingress.console.timeline import Timelines
from ingress.routes.descriptions import caller
from ingress.web.auth import ApiKey, Authenticator, Scope
from ingress.web.browser import request_key
from persistence.database.pool import Pool
from persistence.operator_actions import Actions
from transport.contract import Transport

__all__ = ["ADMIN", "READER", "Caller", "Console", "ConsoleState", "Migration", "OwnKey"]


@dataclass(frozen=True, kw_only=True)
class ConsoleState:
    """The console of one process. ``migration`` is ``None`` if this process can't control it."""

    auth: Authenticator
    sampler: Sampler
    last_hour: LastHour
    timelines: Timelines
    search: Search
    tail: Tail
    logs: list[WatchedLog]
    actions: Actions
    commits: GroupCommit
    intake: Intake
    pool: Pool
    migration: MigrationActions | None
    timeout_seconds: float

    @property
    def transports(self) -> dict[str, Transport]:
        """The logs that this process can read, by name."""
        return {log.transport.name: log.transport for log in self.logs}

    @property
    def primary(self) -> Transport:
        """The log that messages are written to."""
        return next(log.transport for log in self.logs if "primary" in log.roles)


async def _state(request: Request) -> ConsoleState:
    return cast("ConsoleState", request.app.state.console)


Console = Annotated[ConsoleState, Depends(_state)]


async def _migration(console: Console) -> MigrationActions:
    assert console.migration is not None, "its routes are served only where it is there"
    return console.migration


async def _reader(request: Request, console: Console) -> None:
    headers = dict(request.scope["headers"])
    request_key(console.auth, request.method, headers, Scope.READ, Scope.ADMIN)


async def _admin(request: Request, console: Console) -> None:
    request_key(console.auth, request.method, dict(request.scope["headers"]), Scope.ADMIN)


async def _own_key(request: Request, console: Console) -> ApiKey | None:
    headers = dict(request.scope["headers"])
    return request_key(console.auth, request.method, headers, Scope.READ, Scope.ADMIN, limited=True)


async def _caller(request: Request, console: Console) -> str:
    return caller(console.auth, request)


READER = Depends(_reader)
"""A dependency that requires a key with the scope read or admin, and without a prefix."""
ADMIN = Depends(_admin)
"""A dependency that requires a key with the scope admin."""
Migration = Annotated[MigrationActions, Depends(_migration)]
OwnKey = Annotated[ApiKey | None, Depends(_own_key)]
"""The request's key, perhaps with a prefix; ``None`` if no keys are needed."""
Caller = Annotated[str, Depends(_caller)]
"""The caller for the record of actions; see ``descriptions.caller``."""
