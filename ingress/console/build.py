"""The console's parts put together: one sampler, what it is asked with, and the routes to both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastapi import APIRouter

from ingress.accept.group_commit import GroupCommit
from ingress.accept.intake import Intake
from ingress.console.find_routes import find_router
from ingress.console.hour import LastHour
from ingress.console.log_routes import logs_router
from ingress.console.migration import MigrationActions
from ingress.console.migration_routes import migration_router
from ingress.console.pages import console_pages_router
from ingress.console.produce_routes import produce_router
from ingress.console.readings import WatchedLog
from ingress.console.routes import console_router
from ingress.console.sampler import Sampler
from ingress.console.search import Search
from ingress.console.session import session_router
from ingress.console.tail import Tail
from ingress.console.tail_routes import tail_router
from ingress.console.timeline import Timelines
from ingress.messages import Messages
from ingress.schema.requests import RequestLimits
from ingress.settings import IngressSettings
from ingress.web.auth import Authenticator
from persistence.database.pool import Pool
from persistence.operator_actions import Actions
from transport.contract import Transport

__all__ = ["ConsoleParts", "console_of", "watched"]


class ConsoleParts(NamedTuple):
    """The routes, and what has to be started and ended with the server."""

    routers: list[APIRouter]
    sampler: Sampler
    tail: Tail
    hour: LastHour


def watched(written: Transport, read: Transport) -> list[WatchedLog]:
    """Return the logs to show where nobody has said which there are."""
    if read is written:
        return [WatchedLog(written, ("primary", "consumed"))]
    return [WatchedLog(written, ("primary",)), WatchedLog(read, ("consumed",))]


def console_of(
    *,
    settings: IngressSettings,
    auth: Authenticator,
    messages: Messages,
    pool: Pool,
    actions: Actions,
    commits: GroupCommit,
    logs: Sequence[WatchedLog],
    seen_by: str,
    migration: MigrationActions | None,
) -> ConsoleParts:
    """Return the console. Until somebody looks it asks how things are every ten seconds only."""
    timeout = settings.ingress_read_timeout_ms / 1000
    sampler = Sampler(logs, pool, seen_by=seen_by)
    hour = LastHour(sampler, seen_by=seen_by, grafana_url=settings.ingress_grafana_url)
    by_name = {one.transport.name: one.transport for one in logs}
    timelines = Timelines(
        messages=messages,
        pool=pool,
        logs=by_name,
        trace_url=settings.ingress_trace_url,
        timeout_seconds=timeout,
    )
    written = next(one.transport for one in logs if "primary" in one.roles)
    read = next(one.transport for one in logs if "consumed" in one.roles)
    router = console_router(
        auth=auth,
        sampler=sampler,
        hour=hour,
        timelines=timelines,
        actions=actions,
        pool=pool,
    )
    tail = Tail(read, pool, timeout_seconds=timeout)
    search = Search(read, pool, logs=by_name, timeout_seconds=timeout)
    routers = [
        session_router(auth=auth),
        find_router(auth=auth, search=search),  # before the routes of single messages
        logs_router(auth=auth, logs=logs, timeout_seconds=timeout),
        tail_router(auth=auth, tail=tail),
        produce_router(
            auth=auth,
            commits=commits,
            intake=Intake(RequestLimits.of(settings)),
            actions=actions,
            log=written.name,
            partitions=written.partitions,
        ),
        router,
        console_pages_router(),
    ]
    if migration is not None:
        routers.append(migration_router(auth=auth, desk=migration, actions=actions))
    return ConsoleParts(routers, sampler, tail, hour)
