"""Queries shared by all callers that wait: ids that come during a query join the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

__all__ = ["SharedQuery", "Waiting", "answer_remaining"]

_Answer = TypeVar("_Answer")

Waiting = Mapping[str, "asyncio.Future[_Answer]"]
"""The answers that callers wait for, by message id."""


class SharedQuery(Generic[_Answer]):
    """Asks about message ids, many in one query and one query at a time.

    Args:
        ask: Runs one query, and sets each answer as soon as it is known.
        unanswered: Returns the answer for ids that ``ask`` left without one, also when it is
            cancelled, so that no caller waits for ever.
        pause: Seconds before each query, in which more ids may join it.
    """

    def __init__(
        self,
        ask: Callable[[Waiting[_Answer]], Awaitable[None]],
        *,
        unanswered: Callable[[], _Answer],
        pause: float = 0.0,
    ) -> None:
        self._ask = ask
        self._unanswered = unanswered
        self._pause = pause
        self._waiting: dict[str, asyncio.Future[_Answer]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def answer(self, message_id: str) -> _Answer:
        """Return the answer for a message, from a query that begins after this call."""
        loop = asyncio.get_running_loop()
        # A query that is under way may have begun before the message was there.
        answer = self._waiting.setdefault(message_id, loop.create_future())
        if self._asking is None:
            self._asking = loop.create_task(self._run())
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        waiting: Waiting[_Answer] = {}
        try:
            while self._waiting:
                if self._pause:
                    await asyncio.sleep(self._pause)
                waiting, self._waiting = self._waiting, {}
                await self._ask(waiting)
                answer_remaining(waiting, self._unanswered())
        finally:
            self._asking = None
            answer_remaining(waiting, self._unanswered())
            answer_remaining(self._waiting, self._unanswered())
            self._waiting = {}


def answer_remaining(waiting: Waiting[_Answer], answer: _Answer) -> None:
    """Set ``answer`` for all of ``waiting`` that have no answer yet."""
    for future in waiting.values():
        if not future.done():
            future.set_result(answer)
