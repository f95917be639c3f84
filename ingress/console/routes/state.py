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
from ingress.web.auth import Authenticator
from persistence.database.pool import Pool
from persistence.operator_actions import Actions
from transport.contract import Transport

__all__ = ["Console", "ConsoleState", "Migration"]


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


Migration = Annotated[MigrationActions, Depends(_migration)]
