"""The leader of a rescue: appends all lost records again, in the order of the old log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from heapq import heapify, heappop, heapreplace

from transport.contract import Appended, Envelope, Outcome
from transport.errors import AppendUnknown, TransportError
from transport.redis.records import sort_key
from transport.redis.rescue.calls import LEADS, RescueCalls
from transport.redis.rescue.recent_appends import RecentAppend
from transport.redis.rescue.report import RescueReport

__all__ = ["Append", "RescueLeader"]

_log = logging.getLogger(__name__)

_RECORDS_PER_TURN = 1000

Append = Callable[[Sequence[Envelope], bool, str], Awaitable[Sequence[Outcome]]]
"""Appends in order. The second argument says whether to recognise repeats by their ids, the third
is the replication id of the server."""


class RescueLeader:
    """Appends lost records again.

    Args:
        calls: The calls to the new server.
        append: Appends to the new server.
        note: Called with the number of records that were just appended again.
    """

    def __init__(self, calls: RescueCalls, append: Append, note: Callable[[int], None]) -> None:
        self._calls = calls
        self._append = append
        self._note = note
        self._again: set[int] = set()  # partitions

    async def lead(self, *, is_alone: bool) -> bool:
        """Append the records of all reports; return false if another process leads meanwhile.

        ``is_alone``: other processes may have lost records that they did not report in time.
        """
        calls = self._calls
        read: set[str] = set()
        count, is_overtaken, is_over = 0, False, False
        while not is_over:
            members = await calls.members() - read
            reports = await calls.reports(members)
            is_overtaken |= await calls.is_overtaken(reports.values())
            async with aclosing(self._lost(reports)) as lost:
                async for some in _turns(lost):
                    if await calls.turn(is_late=True) not in LEADS:
                        return False
                    count += await self._append_again(some)
            if await calls.turn(is_late=True) not in LEADS:
                return False  # another leader has finished, and its count stands
            read |= members
            is_over = await calls.end(count, read)
        if is_alone and count:
            await calls.note_again(dict.fromkeys(self._again, 0), is_partial=True)
        if is_overtaken:
            _tell(count, "in their order, but after newer ones that others appended meanwhile")
        elif is_alone:
            _tell(count, "in their order; not all recent writers had reported their lost records")
        else:
            _tell(count, "in their order, before anything else")
        return True

    async def follow(self, mine: Iterable[RecentAppend]) -> None:
        """Append the lost records of this process, which heard of the rescue after its end."""
        count = 0
        async for some in _turns(_each(mine)):
            count += await self._append_again(some)
        _tell(count, "after newer ones, since this process heard of it late")

    async def _lost(
        self, reports: Mapping[str, RescueReport]
    ) -> AsyncGenerator[RecentAppend, None]:
        """Yield the records of all reports in the old log's order; keep one page of each report."""
        readers = [self._calls.reported(it, reports[it].pages) for it in reports]
        heads = []
        for n, reader in enumerate(readers):
            first = await anext(reader, None)
            if first is not None:
                heads.append((sort_key(first.offset), n, first))
        heapify(heads)
        while heads:
            _, n, it = heads[0]
            yield it
            following = await anext(readers[n], None)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (sort_key(following.offset), n, following))

    async def _append_again(self, lost: Sequence[RecentAppend]) -> int:
        """Append records with the same ``remember``; return how many were not in the log."""
        left, counts = [it.envelope for it in lost], Counter[int]()
        unknown: set[str] = set()  # ids of records that an unanswered append may have added

        async def advance() -> None:
            nonlocal left
            outcomes = await self._append(left, lost[0].remember, self._calls.server)
            ended = next((it for it in outcomes if isinstance(it, TransportError)), None)
            done = outcomes.index(ended) if ended is not None else len(outcomes)
            new = Counter(
                envelope.partition
                for envelope, outcome in zip(left, outcomes[:done], strict=False)
                if type(outcome) is Appended or envelope.message_id in unknown
            )
            counts.update(new)
            self._note(new.total())
            left = left[done:]
            if isinstance(ended, AppendUnknown):
                unknown.update(envelope.message_id for envelope in left)
            if ended is not None:
                raise ended

        await self._calls.patiently(advance)
        if counts:
            await self._calls.note_again(counts)
            self._again |= counts.keys()
        return counts.total()


async def _each(some: Iterable[RecentAppend]) -> AsyncIterator[RecentAppend]:
    for it in some:
        yield it


async def _turns(lost: AsyncIterator[RecentAppend]) -> AsyncIterator[list[RecentAppend]]:
    """Yield the lost records in order, in lists with the same ``remember``."""
    some: list[RecentAppend] = []
    async for it in lost:
        if some and (it.remember != some[0].remember or len(some) == _RECORDS_PER_TURN):
            yield some
            some = []
        some.append(it)
    if some:
        yield some


def _tell(count: int, place: str) -> None:
    if count:
        _log.error(
            "A failover lost %d acknowledged records that this process and others still had: they "
            "were appended again, %s",
            count,
            place,
        )
