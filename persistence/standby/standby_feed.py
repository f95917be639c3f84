"""Acknowledge records that a claim hands to a standby, once they are settled.

This is the fast path: the record was appended by this process, so it is neither read nor decoded.
If a record does not settle within a lull, or a question fails, the claim delivers all records
again, to ``PartitionStandby``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, takewhile

from persistence.errors import Outage
from persistence.standby.settled_query import (
    LULL_SECONDS,
    SettlementQuery,
    UnsettledRecord,
    unsettled_record,
)
from transport.contract import HandingClaim, Record

__all__ = ["StandbyFeed", "until_look"]

_MOST_BYTES = 1 << 20
_LOOKS_AT = 0.125
"""Seconds: feeds look when the clock is at a multiple of this. So partitions share a statement, of
which planning and starting cost as much as 20 records."""

_Run = list[UnsettledRecord]


class StandbyFeed:
    """Holds what one claim has handed over.

    Args:
        claim: The claim.
        query: Asks which records are settled.
        most: The most records to hold.
        is_closed: Whether to take nothing now.
        acknowledged: Called with an offset and a number of records, once these records, of which
            the last one is at this offset, are acknowledged.
        refused: Called with records that the claim will deliver again.
    """

    def __init__(
        self,
        claim: HandingClaim,
        query: SettlementQuery,
        *,
        most: int,
        is_closed: Callable[[], bool],
        acknowledged: Callable[[str, int], None],
        refused: Callable[[Iterable[UnsettledRecord]], None],
    ) -> None:
        self._claim = claim
        self._query = query
        self._most = most
        self._is_closed = is_closed
        self._acknowledged = acknowledged
        self._refused = refused
        self._runs: deque[_Run] = deque()  # what each call of ``take`` brought
        self._count = self._bytes = 0
        self._task: asyncio.Task[None] | None = None

    def take(self, records: Sequence[Record]) -> bool:
        """Hold records, if there is room for them; see ``transport.contract.Taker``."""
        size = _size(records)
        if self._is_closed():
            return False
        if self._count + len(records) > self._most or self._bytes + size > _MOST_BYTES:
            return False
        self._runs.append([unsettled_record(record) for record in records])
        self._grow(len(records), size)
        if self._task is None:
            self._task = asyncio.create_task(self._settle())
        return True

    async def close(self) -> None:
        """Stop. Records that are not settled stay unacknowledged."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._refuse()

    async def _settle(self) -> None:
        """Look after each lull, until nothing is held, or a look fails."""
        try:
            with suppress(Outage):  # ``PartitionStandby`` asks again, and waits it out
                while self._runs:
                    await asyncio.sleep(until_look(asyncio.get_running_loop().time()))
                    await self._look()
        finally:
            self._task = None
            self._refuse()

    async def _look(self) -> None:
        asked = list(self._runs)
        await self._query.ask([waiting for run in asked for waiting in run], letters=False)
        settled = list(takewhile(_is_settled, asked))
        if settled:
            self._pass(settled)
        else:
            self._refuse()

    def _pass(self, runs: Sequence[_Run]) -> None:
        records = [waiting.record for run in runs for waiting in run]
        for _ in runs:
            self._runs.popleft()
        self._grow(-len(records), -_size(records))
        through = records[-1].offset
        self._claim.passed(through, partial(self._ack_ended, through, len(records)))

    def _ack_ended(self, through: str, count: int, began: int | None) -> None:
        if began is not None:
            self._acknowledged(through, count)

    def _refuse(self) -> None:
        if self._runs:
            self._refused(chain.from_iterable(self._runs))
            self._runs.clear()
            self._count = self._bytes = 0
            self._claim.refused()

    def _grow(self, records: int, size: int) -> None:
        self._count += records
        self._bytes += size


def until_look(now: float) -> float:
    """Return for how many seconds to wait at ``now``, on the event loop's clock.

    That is a lull, and on to the next moment at which all feeds look.
    """
    return LULL_SECONDS + -(now + LULL_SECONDS) % _LOOKS_AT


def _size(records: Sequence[Record]) -> int:
    return sum([len(record.body) for record in records])


def _is_settled(run: _Run) -> bool:
    return all(waiting.settled for waiting in run)
