"""Wait a moment for the row of a message that was just accepted; all that wait share a statement.

Its row comes some milliseconds later. One question to PostgreSQL for all such messages costs far
less than a look into a log that remembers no ids, and is answered sooner.
"""

from __future__ import annotations

import asyncio

from ingress.shared_question import SharedQuestion, Waiting
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
        self._questions = questions
        self._question = SharedQuestion(self._ask, unanswered=lambda: False, pause=pause)

    async def arrives(self, message_id: str) -> bool:
        """Return whether the message has its row within a few moments.

        ``False`` says nothing: its row may come later, or PostgreSQL could not be asked.
        """
        for _ in range(self._questions):
            if await self._question.answer(message_id):
                return True
        return False

    async def _ask(self, waiting: Waiting[bool]) -> None:
        there = await self._with_rows(list(waiting))
        for message_id, answer in waiting.items():
            if message_id in there:
                answer.set_result(True)

    async def _with_rows(self, message_ids: list[str]) -> set[str]:
        self.asked += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await queries.with_rows(self._pool, message_ids)
        except (Outage, TimeoutError):
            return set()  # the caller asks elsewhere, and says so
