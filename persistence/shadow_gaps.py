"""The gap ledger: messages the shadow was not given, in PostgreSQL for a backfill to find.

Noting is cheap and waits for nothing. Notes are merged in memory, one range for each
partition and kind, and written in one statement now and then; while PostgreSQL is down the ranges
grow wider, and take no more room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from typing import Self

import msgspec
import structlog

from persistence.database.pool import Connection, Pool, using
from persistence.errors import PersistenceError
from transport.backoff import Backoff
from transport.shadow.outcomes import Drop

__all__ = ["ShadowGaps", "open_gaps"]

_log = structlog.get_logger(__name__)

# The longer an outage, the wider and the fewer the ranges: some thousand rows for an hour.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_CALM = 60.0
_WITHIN = 5.0

_INSERT = """
INSERT INTO shadow_gaps
    (transport, shadow, noted_by, partition, kind, first_offset, last_offset, records)
SELECT $1, $2, $3, t.*
FROM unnest($4::int[], $5::text[], $6::text[], $7::text[], $8::bigint[]) AS t
"""

_OPEN = """
SELECT kind, sum(records)::bigint AS records FROM shadow_gaps
WHERE shadow = $1 AND repaired_at IS NULL GROUP BY kind ORDER BY kind
"""


_Place = tuple[bytes, str]
"""A sort key and its offset. Offsets are parsed once, because each drop of an outage comes here."""


class _Range(msgspec.Struct):
    """Consecutive drops of one kind in one partition."""

    first: _Place | None = None
    last: _Place | None = None
    records: int = 0

    def widen(self, place: _Place | None) -> None:
        """Extend the range to ``place``, if it is known."""
        if place is None:
            return
        if self.last is None or self.last < place:
            self.last = place
        if self.first is None or place < self.first:
            self.first = place


class ShadowGaps:
    """A ``transport.shadow.observer.GapLedger``, and a context manager: on exit it writes the rest.

    ``sort_key`` is the primary's, whose offsets are noted.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        transport: str,
        shadow: str,
        sort_key: Callable[[str], bytes],
        member: str,
    ) -> None:
        self._pool = pool
        self._transport, self._shadow, self._member = transport, shadow, member
        self._sort_key = sort_key
        self._noted: defaultdict[tuple[int, str], _Range] = defaultdict(_Range)
        self._writing: dict[tuple[int, str], _Range] = {}
        self._something = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write_for_ever(), name="shadow gaps")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write the notes, if PostgreSQL takes them in a moment."""
        assert self._writer is not None
        self._writer.cancel()
        await asyncio.wait([self._writer])
        with contextlib.suppress(PersistenceError, TimeoutError):
            await self._write()
        if self._noted:
            lost = sum(note.records for note in self._noted.values())
            _log.warning(
                "Gap ledger not written before exit: find these messages with "
                "'crossfade migrate parity'",
                records=lost,
            )

    @property
    def unwritten(self) -> int:
        """Number of noted messages that are not yet in PostgreSQL."""
        ranges = (*self._noted.values(), *self._writing.values())
        return sum(gap.records for gap in ranges)

    def note(self, partition: int, drop: Drop, offset: str | None) -> None:
        """Record one message that the shadow was not given."""
        noted = self._noted[partition, drop.value]
        noted.records += 1
        noted.widen(None if offset is None else (self._sort_key(offset), offset))
        self._something.set()

    async def _write_for_ever(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, calm=_CALM)
        failing = False
        while True:
            await self._something.wait()
            await asyncio.sleep(backoff.next())
            try:
                await self._write()
            except (PersistenceError, TimeoutError) as error:
                if not failing:
                    _log.warning("Gap ledger not written; will retry", error=str(error))
                failing = True
            else:
                failing = False

    async def _write(self) -> None:
        noted = self._writing = self._noted
        self._noted = defaultdict(_Range)
        self._something.clear()
        if not noted:
            return
        try:
            async with asyncio.timeout(_WITHIN), using(self._pool, within=_WITHIN) as connection:
                await connection.execute(
                    _INSERT,
                    self._transport,
                    self._shadow,
                    self._member,
                    [partition for partition, _ in noted],
                    [kind for _, kind in noted],
                    [note.first and note.first[1] for note in noted.values()],
                    [note.last and note.last[1] for note in noted.values()],
                    [note.records for note in noted.values()],
                )
        except BaseException:
            # An interrupted statement may have been written all the same: twice is better than not
            # at all.
            for key, note in noted.items():
                again = self._noted[key]
                again.records += note.records
                again.widen(note.first)
                again.widen(note.last)
            self._something.set()
            raise
        finally:
            self._writing = {}


async def open_gaps(connection: Connection, shadow: str) -> dict[str, int]:
    """Count the messages in the unrepaired gaps of ``shadow``, by kind."""
    rows = await connection.fetch(_OPEN, shadow)
    return {row["kind"]: row["records"] for row in rows}
