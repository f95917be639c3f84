"""A short wait for the rows of messages that were just accepted, with one statement for all.

A row comes some milliseconds after its message was accepted. One query for all such messages costs
far less than a search in a log that remembers no ids, and is answered sooner.
"""

from __future__ import annotations

import asyncio

from ingress.shared_query import SharedQuery, Waiting
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.reads import messages as queries

__all__ = ["ArrivingRows"]

_PAUSE = 0.015
_ATTEMPTS = 2


class ArrivingRows:
    """Waits for rows of messages.

    Args:
        pool: Connections to PostgreSQL.
        timeout_seconds: How long PostgreSQL may take for an answer.
        pause: Seconds before each query.
        attempts: The number of queries for a message.
    """

    def __init__(
        self,
        pool: Pool,
        timeout_seconds: float,
        *,
        pause: float = _PAUSE,
        attempts: int = _ATTEMPTS,
    ) -> None:
        self.asked = 0
        """The number of queries to PostgreSQL so far."""
        self._pool = pool
        self._timeout = timeout_seconds
        self._attempts = attempts
        self._query = SharedQuery(self._ask, unanswered=lambda: False, pause=pause)

    async def arrives(self, message_id: str) -> bool:
        """Return ``True`` as soon as the message has its row.

        ``False`` is no proof: the row may come later, or PostgreSQL could not be asked.
        """
        for _ in range(self._attempts):
            if await self._query.answer(message_id):
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
            return set()  # the caller then asks the log, and reports the outage
