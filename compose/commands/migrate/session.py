"""The connections of a ``crossfade migrate`` command, and the output of its refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from compose.output import client_settings, fail, run
from migration_guide.errors import MigrationError
from migration_guide.steps import Steps
from persistence.database.pool import Pool, connect

__all__ = ["explained", "session"]

T = TypeVar("T")


@asynccontextmanager
async def session(*, say: bool = True) -> AsyncIterator[tuple[Steps, Pool]]:
    """Yield the migration's steps and a pool for the database of the settings.

    With ``say``, print the servers if they are those of a ``crossfade up``.
    """
    settings = client_settings(say=say)
    pool = await connect(settings.persistence)
    try:
        yield Steps(pool, settings.transport), pool
    finally:
        await pool.close()


def explained(main: Callable[[], Coroutine[Any, Any, T]], *, unreachable: int = 1) -> T:
    """Run a command's coroutine as ``run`` does; a refusal ends the command with one line, too."""
    try:
        return run(main, unreachable=unreachable)
    except MigrationError as error:
        fail(str(error))
