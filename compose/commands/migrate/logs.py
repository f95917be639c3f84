"""Options that parity and backfill share: the two logs, and the period."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from compose.commands.options.age import age_seconds
from compose.output import run
from compose.settings import Settings
from migration_guide.meant_log import must_be_meant
from persistence.database.pool import Pool, connect
from persistence.fleet.log_choice import FIRST_PAIR, LogPair
from persistence.fleet.migration_state import state
from transport.contract import Transport
from transport.existing import must_exist
from transport.registry import create

__all__ = ["Since", "moment", "other", "two_logs"]

Since = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN", help="Begin at this time: 90s, 15m, 2h or 3d ago, or an RFC 3339 time."
    ),
]


def moment(text: str | None, option: str) -> float | None:
    """Return an age or an RFC 3339 time as seconds since the epoch; ``None`` for ``None``.

    Raises:
        typer.BadParameter: the text is neither an age nor a time.
    """
    if text is None:
        return None
    if (seconds := age_seconds(text)) is not None:
        return max(0.0, time.time() - seconds)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither an age (90s, 15m, 2h, 3d) nor a time (2026-11-24T20:00:00Z)",
            param_hint=option,
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def other(settings: Settings, primary: str, named: str | None, option: str) -> str:
    """Return the second log: the one named, else the shadow, else the migration's other log.

    Raises:
        typer.BadParameter: the named log is the first one, or there is no other log.
    """
    ours = settings.transport
    if named == primary:
        raise typer.BadParameter(f"{primary} is both; name another log.", param_hint=option)
    for name in (named, ours.transport_shadow, ours.transport):
        if name and name != primary:
            return name
    if name := run(lambda: _pair(settings)).other(primary):
        return name
    raise typer.BadParameter(f"which log beside {primary}? Name it.", param_hint=option)


async def _pair(settings: Settings) -> LogPair:
    """Return the logs of the recorded migration; the first pair if none is recorded."""
    pool = await connect(settings.persistence)
    try:
        found = await state(pool)
        return found.pair if found else FIRST_PAIR
    finally:
        await pool.close()


@asynccontextmanager
async def two_logs(
    settings: Settings, *names: str, make: bool = False, pool: Pool | None = None
) -> AsyncIterator[tuple[Transport, Transport]]:
    """Connect the two logs ``names``. With ``make``, create the second if it does not exist.

    With ``pool``, both have to be the logs that these names mean to the processes.

    Raises:
        WrongLogError: one of them is another log.
        TransportError: a log can't be reached.
        ConfigurationError: a log does not exist.
    """
    for name in names[:1] if make else names:
        await must_exist(name, settings.transport)
    async with AsyncExitStack() as stack:
        first, second = (create(name, settings.transport) for name in names)
        for log in (first, second):
            await stack.enter_async_context(log)
            if pool is not None:
                await must_be_meant(log, pool)
        yield first, second
