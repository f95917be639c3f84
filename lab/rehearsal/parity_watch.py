"""Figures of the service's running comparison of the two logs, for the page's chart."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import msgspec

from migration_guide.parity.result import DIFFERENCES, ParityResult
from persistence.database.translation import translated
from persistence.errors import PersistenceError

__all__ = ["Parity", "ParityWatch"]

_WITHIN = 1.0
_ANSWER_AGE = "20 seconds"  # older: no process compares now

_LATEST = f"""
SELECT counts FROM parity_reports
WHERE kind = 'running' AND until > now() - interval '{_ANSWER_AGE}' ORDER BY until DESC LIMIT 1
"""  # noqa: S608 - a constant


class Parity(msgspec.Struct, rename="camel"):
    """The latest comparison: messages that differ or are missing, and those not yet comparable."""

    differing: int
    waiting: int


class ParityWatch:
    """Reads the latest result of the running comparison from PostgreSQL."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: asyncpg.Connection | None = None

    async def look(self) -> Parity | None:
        """Return the latest figures; ``None`` if no process compares or PostgreSQL is down."""
        try:
            with translated():
                async with asyncio.timeout(_WITHIN):
                    if self._connection is None:
                        self._connection = await asyncpg.connect(self._url)
                    counts = await self._connection.fetchval(_LATEST)
        except PersistenceError:
            self.close()
            return None
        if counts is None:
            return None
        by_result = msgspec.json.decode(counts, type=dict[str, int])
        return Parity(
            differing=sum(by_result.get(result, 0) for result in DIFFERENCES),
            waiting=by_result.get(ParityResult.NOT_YET_COMPARABLE, 0),
        )

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.terminate()
            self._connection = None
