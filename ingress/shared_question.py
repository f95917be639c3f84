"""One question for many message ids. Ids that come while it is under way wait for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

__all__ = ["SharedQuestion", "Waiting", "answer_rest"]

_Answer = TypeVar("_Answer")

Waiting = Mapping[str, "asyncio.Future[_Answer]"]
"""The answers that are waited for, by message id."""


class SharedQuestion(Generic[_Answer]):
    """Asks about message ids, many at once and one question at a time.

    Args:
        ask: Sets the answers, each as soon as it is known.
        unanswered: Returns the answer for those that ``ask`` left without one, as when it is
            cancelled: nobody may wait for ever.
        pause: Seconds before each question, in which more may join it.
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
        """Return the answer for a message, of a question that is asked from now on."""
        loop = asyncio.get_running_loop()
        # One that is under way may have been asked before the message was there.
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
                answer_rest(waiting, self._unanswered())
        finally:
            self._asking = None
            answer_rest(waiting, self._unanswered())
            answer_rest(self._waiting, self._unanswered())
            self._waiting = {}


def answer_rest(waiting: Waiting[_Answer], answer: _Answer) -> None:
    """Give those that have no answer yet this one."""
    for future in waiting.values():
        if not future.done():
            future.set_result(answer)
