"""Do the same work with many things, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["for_each"]

_AT_ONCE = 8

T = TypeVar("T")


async def for_each(
    things: Iterable[T], work: Callable[[T], Awaitable[object]], *, at_once: int = _AT_ONCE
) -> None:
    """Do ``work`` with each of ``things``, ``at_once`` at a time.

    Raises:
        Exception: the first error of ``work``, unchanged; the other calls were cancelled.
    """
    turns = asyncio.Semaphore(at_once)

    async def turn(thing: T) -> None:
        async with turns:
            await work(thing)

    try:
        async with asyncio.TaskGroup() as tasks:
            for thing in things:
                tasks.create_task(turn(thing))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
