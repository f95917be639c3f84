"""Every configured log with its roles, for the console and for commands that only read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from compose.process.logs.reconnecting import ReconnectingTransport
from compose.settings import Settings
from ingress.console.readings import WatchedLog
from ingress.console.views import Part
from persistence.database.pool import Pool, connect
from transport.contract import Transport
from transport.errors import ConfigurationError
from transport.existing import must_exist
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Watching", "watched", "watching"]


class Watching(NamedTuple):
    """Connections that only read. A log or a database that is down fails at its first call."""

    logs: list[WatchedLog]
    consumed: Transport
    pool: Pool


def watched(settings: TransportSettings, logs: Iterable[Transport]) -> list[WatchedLog]:
    """Return each of ``logs`` with its roles under ``settings``."""
    parts: list[tuple[Part, str | None]] = [
        ("primary", settings.transport),
        ("consumed", settings.consumed),
        ("shadow", settings.transport_shadow),
    ]
    return [
        WatchedLog(log, tuple(part for part, name in parts if name == log.name)) for log in logs
    ]


@asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[Watching]:
    """Open every configured log and the database for reading; join no group, change nothing.

    Raises:
        ConfigurationError: the server of the consumed log has no log of ours.
    """
    chosen = settings.transport
    await must_exist(chosen.consumed, chosen)
    names = dict.fromkeys((chosen.transport, chosen.consumed, chosen.transport_shadow))
    async with AsyncExitStack() as stack:
        pool = await connect(settings.persistence)
        stack.callback(pool.terminate)
        logs = [ReconnectingTransport(create(name, chosen), needed=False) for name in names if name]
        for log in logs:
            with suppress(ConfigurationError):  # calls to that log raise it
                await stack.enter_async_context(log)
        consumed = next(log for log in logs if log.name == chosen.consumed)
        yield Watching(watched(chosen, logs), consumed, pool)
