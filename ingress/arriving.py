"""Wait a moment for the row of a message that was just accepted; all that wait share a statement.

Its row comes some milliseconds later. One question to PostgreSQL for all such messages costs far
less than a look into a log that remembers no ids, and is answered sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads import messages as queries

__all__ = ["ArrivingRows"]

_PAUSE = 0.015
_QUESTIONS = 2


class ArrivingRows:
    """Tells whether messages have their rows within a moment.

    Args:
        pool: connections to PostgreSQL.
        timeout_seconds: how long an answer of PostgreSQL may take.
        pause: seconds before each question.
        questions: how often a message is asked for.
    """

    def __init__(
        self,
        pool: Pool,
        timeout_seconds: float,
        *,
        pause: float = _PAUSE,
        questions: int = _QUESTIONS,
    ) -> None:
        self.asked = 0
        """Questions to PostgreSQL."""
        self._pool = pool
        self._timeout = timeout_seconds
        self._pause = pause
        self._questions = questions
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def arrives(self, message_id: str) -> bool:
        """Return whether the message has its row within a few moments.

        ``False`` says nothing: its row may come later, or PostgreSQL could not be asked.
        """
        for _ in range(self._questions):
            if await self._asked(message_id):
                return True
        return False

    async def _asked(self, message_id: str) -> bool:
        loop = asyncio.get_running_loop()
        answer = self._waiting.setdefault(message_id, loop.create_future())
        if self._asking is None:
            self._asking = loop.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        waiting: Mapping[str, asyncio.Future[bool]] = {}
        try:
            while self._waiting:
                await asyncio.sleep(self._pause)
                waiting, self._waiting = self._waiting, {}
                there = await self._with_rows(list(waiting))
                _answer(waiting, there)
        finally:
            self._asking = None
            # All have answers, unless this was cancelled. Nobody may wait for ever.
            _answer(waiting, set())
            _answer(self._waiting, set())
            self._waiting = {}

    async def _with_rows(self, message_ids: list[str]) -> set[str]:
        self.asked += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await queries.with_rows(self._pool, message_ids)
        except (Outage, TimeoutError):
            return set()  # the caller asks elsewhere, and says so


def _answer(waiting: Mapping[str, asyncio.Future[bool]], there: set[str]) -> None:
    """Answer those that have no answer yet."""
    for message_id, answer in waiting.items():
        if not answer.done():
            answer.set_result(message_id in there)
