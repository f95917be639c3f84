"""Reads from PostgreSQL with retries, while faults interrupt it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from lab.harness.waiting import StuckError
from persistence.errors import PersistenceError
from persistence.payloads.errors import PayloadError

__all__ = ["AWAY", "read_patiently"]

AWAY = (
    PersistenceError,
    PayloadError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised after the connection's server was suspended
)
"""Errors that reads from PostgreSQL and from the archive may raise during faults."""

_WITHIN = 300.0
_AGAIN = 1.0

_Read = TypeVar("_Read")


async def read_patiently(read: Callable[[], Awaitable[_Read]], what: str) -> _Read:
    """Call ``read`` until it succeeds, for 300 seconds at most.

    Args:
        read: The call.
        what: Begins the error's message.

    Raises:
        StuckError: it did not succeed in time.
    """
    deadline = time.monotonic() + _WITHIN
    while True:
        try:
            return await read()
        except AWAY as error:
            if time.monotonic() > deadline:
                raise StuckError(f"{what}: {error}") from error
            await asyncio.sleep(_AGAIN)
