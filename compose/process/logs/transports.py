"""The logs of one process: the primary, the consumed log and the shadow, made and connected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from compose.process.context import ProcessContext
from compose.process.logs.reconnecting import ReconnectingTransport
from compose.process.role import Role
from otel.append_metrics import AppendMetrics, count_rescued, count_throttled
from otel.shadow_metrics import ShadowMetrics
from persistence.fleet.append_outage import AppendWatch
from persistence.shadow_gaps import ShadowGaps
from transport.contract import Transport
from transport.registry import create
from transport.settings import TransportSettings
from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport

__all__ = ["Logs", "open_logs", "shadowed", "written_by"]


class Logs(NamedTuple):
    """The logs of one process."""

    every: list[ReconnectingTransport]
    """Each log once, even if it has several roles."""
    written: Transport
    """Gets the appends: the primary, with its shadow if there is one."""
    consumed: Transport
    """The log that the workers read."""
    mirror: Mirror | None
    """Copies the appends to the shadow."""
    appends: AppendWatch
    """Tells whether the primary takes this process's appends."""


@asynccontextmanager
async def open_logs(context: ProcessContext) -> AsyncIterator[Logs]:
    """Make the logs and try to connect each; close them when the block ends.

    Raises:
        ConfigurationError: a setting can't work with the servers at its addresses.
    """
    settings = context.settings.transport
    shadow = settings.transport_shadow
    needed = {settings.transport, settings.consumed}
    if settings.transport_shadow_mode == "sync":
        needed.add(shadow or settings.transport)
    names = dict.fromkeys((settings.transport, settings.consumed, shadow or settings.transport))
    appends = AppendWatch(settings.transport)
    async with AsyncExitStack() as stack:
        logs: dict[str, ReconnectingTransport] = {}
        for name in names:
            made = create(name, settings)
            count_rescued(context.metrics, made)
            count_throttled(context.metrics, made)
            log = ReconnectingTransport(
                made,
                needed=name in needed,
                observers=(
                    AppendMetrics(context.metrics, name, made.partitions),
                    *context.tracing.append_observers(name),
                    *([appends] if name == settings.transport else []),
                ),
            )
            logs[name] = await stack.enter_async_context(log)
        every = list(logs.values())
        primary, consumed = logs[settings.transport], logs[settings.consumed]
        if shadow is None:
            yield Logs(every, primary, consumed, None, appends)
            return
        both = await stack.enter_async_context(shadowed(context, primary, logs[shadow]))
        yield Logs(every, both, consumed, both.mirror, appends)


@asynccontextmanager
async def shadowed(
    context: ProcessContext, primary: Transport, shadow: Transport
) -> AsyncIterator[ShadowTransport]:
    """Return ``primary`` with ``shadow`` behind it; send waiting copies when the block ends."""
    gaps = ShadowGaps(
        context.pool,
        transport=primary.name,
        shadow=shadow.name,
        sort_key=primary.sort_key,
        member=context.member,
    )
    mirror = Mirror(
        shadow,
        primary=primary.name,
        settings=context.settings.transport,
        observer=context.metrics.of(ShadowMetrics),
        gaps=gaps,
    )
    async with gaps, mirror:
        yield ShadowTransport(primary, mirror)


def written_by(role: Role, settings: TransportSettings) -> set[str]:
    """Return the logs that a process registers as used: those that it writes, and the consumed one.

    A worker registers none: it may be run on a retired log to empty it.
    """
    if role is Role.WORKER:
        return set()
    names = (settings.transport, settings.transport_shadow, settings.consumed)
    return {name for name in names if name is not None}
