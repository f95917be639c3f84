"""Builds the console of a process: one sampler, and the parts that use it."""

from __future__ import annotations

from collections.abc import Sequence

from ingress.accept.context import AcceptContext
from ingress.accept.intake import Intake
from ingress.console.health.stores import Check
from ingress.console.last_hour import LastHour
from ingress.console.migration import MigrationActions
from ingress.console.readings import WatchedLog
from ingress.console.routes.state import ConsoleState
from ingress.console.sampler import Sampler
from ingress.console.search.search import Search
from ingress.console.tail import Tail
from ingress.console.timeline import Timelines
from ingress.messages import Messages
from ingress.schema.requests import RequestLimits
from ingress.settings import IngressSettings
from persistence.database.pool import Pool
from persistence.operator_actions import Actions
from transport.contract import Transport

__all__ = ["console_of", "watched"]


def watched(written: Transport, read: Transport) -> list[WatchedLog]:
    """Return the logs that the console shows by default: the written one and the read one."""
    if read is written:
        return [WatchedLog(written, ("primary", "consumed"))]
    return [WatchedLog(written, ("primary",)), WatchedLog(read, ("consumed",))]


def console_of(  # noqa: PLR0913 - what a console is made of, once
    *,
    settings: IngressSettings,
    accept: AcceptContext,
    messages: Messages,
    pool: Pool,
    reads: Pool,
    actions: Actions,
    logs: Sequence[WatchedLog],
    seen_by: str,
    checks: Sequence[Check],
    migration: MigrationActions | None,
) -> ConsoleState:
    """Return the console of a process. It samples every ten seconds until a client follows it."""
    timeout = settings.ingress_read_timeout_ms / 1000
    sampler = Sampler(logs, pool, seen_by=seen_by, checks=checks)
    by_name = {log.transport.name: log.transport for log in logs}
    read = next(log.transport for log in logs if "consumed" in log.roles)
    return ConsoleState(
        auth=accept.auth,
        sampler=sampler,
        last_hour=LastHour(sampler, seen_by=seen_by, grafana_url=settings.ingress_grafana_url),
        timelines=Timelines(
            messages=messages,
            pool=pool,
            logs=by_name,
            trace_url=settings.ingress_trace_url,
            timeout_seconds=timeout,
        ),
        search=Search(read, reads, logs=by_name, timeout_seconds=timeout),
        tail=Tail(read, pool, timeout_seconds=timeout),
        logs=list(logs),
        actions=actions,
        commits=accept.commits,
        intake=Intake(RequestLimits.of(settings)),
        pool=pool,
        migration=migration,
        timeout_seconds=timeout,
    )
