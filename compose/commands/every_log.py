"""Connects the logs that may hold records of a database's messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

from compose.output import fail
from compose.settings import Settings
from persistence.database.pool import Pool
from persistence.fleet.used_logs import used_logs
from transport.contract import Transport
from transport.existing import must_exist
from transport.registry import create

__all__ = ["every_log", "originals"]


@asynccontextmanager
async def originals(settings: Settings, pool: Pool) -> AsyncIterator[list[Transport]]:
    """Connect every log that may hold records that are not rows yet."""
    ours = settings.transport
    async with _connected(settings, {ours.transport, ours.consumed, *await _used(pool)}) as logs:
        yield logs


@asynccontextmanager
async def every_log(settings: Settings, pool: Pool) -> AsyncIterator[list[Transport]]:
    """Connect every log that may hold records or copies of them."""
    async with _connected(settings, {*settings.transport.logs, *await _used(pool)}) as logs:
        yield logs


async def _used(pool: Pool) -> list[str]:
    return [name for name in await used_logs(pool) if name]


@asynccontextmanager
async def _connected(settings: Settings, names: Collection[str]) -> AsyncIterator[list[Transport]]:
    async with AsyncExitStack() as stack:
        logs: list[Transport] = []
        for name in sorted(names):
            made = create(name, settings.transport)
            if not made.features.shared:
                fail(f"{name} is a log within one process: what is unread there can't be known")
            await must_exist(name, settings.transport)
            logs.append(await stack.enter_async_context(made))
        yield logs
