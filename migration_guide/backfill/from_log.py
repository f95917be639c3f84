"""From the source's log: exact copies of the records that the target lacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import asyncpg

from migration_guide.backfill.appending import BackfillAppends
from migration_guide.backfill.comparing import MissingCopy, RunningComparison
from migration_guide.backfill.copies import of_record
from migration_guide.backfill.equal import KnownEqual
from migration_guide.backfill.latest import EQUAL, latest_place
from migration_guide.backfill.ledger import close_gaps, open_gaps
from persistence.ownership.settled import settled_through
from persistence.reads.tombstones import erased
from transport.contract import Envelope, Record, Topic
from transport.errors import DecodeError
from transport.message.envelope import decode

__all__ = ["FromLog"]

_NOTE_SECONDS = 5.0
"""Seconds between two notes of the progress while it compares."""

_PAGE = 500
_FEWEST = 8


class FromLog:
    """The rounds of one backfill. ``close`` it."""

    def __init__(self, of: BackfillAppends) -> None:
        self._of = of
        self._comparing: RunningComparison | None = None
        self._began = 0.0
        self._gaps: Sequence[asyncpg.Record] = ()

    def close(self) -> None:
        """Close the comparison; the next round begins a new one."""
        if self._comparing is not None:
            self._comparing.close()
            self._comparing = None

    async def round(self) -> bool:
        """Compare the records since the last round, and append those that are missing.

        Returns whether another round is needed. It is if one of the missing records is older than
        the comparison, or if a log lost records. A shadow may go on losing copies; with a round for
        each of those, no round would be the last.
        """
        status, source = self._of.status, self._of.source
        comparing = await self._compared()
        if comparing is None:
            return True
        appended = [
            copy.facts.appended_at
            for partition in range(source.partitions)
            for copy in comparing.missing(partition)
        ]
        missing = len(appended)
        status.uncopied = comparing.uncopied
        if not missing:
            await self._repaired(comparing)
            self._settle(comparing)
            return False
        status.stage = "appending"
        status.missing = status.appended + status.present + status.refused + missing
        for partition in range(source.partitions):
            await self._append(comparing, partition)
        self._settle(comparing)
        is_last = min(appended) > self._began
        if is_last:
            await self._repaired(comparing)
        await self._of.note()
        return not is_last

    async def count(self) -> int:
        """Return the number of records that a round would append."""
        comparing = None
        while comparing is None:
            comparing = await self._compared()
        missing = range(self._of.source.partitions)
        found = sum(1 for p in missing for _ in comparing.missing(p))
        self._of.status.uncopied = comparing.uncopied
        return found

    async def _compared(self) -> RunningComparison | None:
        """Read on to the ends of both logs; ``None`` if one of them lost records meanwhile."""
        of, request = self._of, self._of.request
        of.status.stage = "comparing"
        if self._comparing is None:
            self._began = time.time()
            self._comparing = await RunningComparison.begin(
                of.source,
                of.target,
                since=request.since,
                limits=request.limits,
                everything=request.everything,
                settled=lambda: settled_through(of.pool, of.source),
                earlier=self._earlier,
            )
        # Before it reads: the record of each of these gaps is in the log by now.
        self._gaps = await open_gaps(of.pool, of.source.name, of.target.name, request.limits.settle)
        noting = asyncio.create_task(self._keep_noting(self._comparing))
        reading = asyncio.create_task(self._comparing.read_on(self._examined))
        try:
            await asyncio.wait((noting, reading), return_when=asyncio.FIRST_COMPLETED)
            if noting.done():
                noting.result()  # raises why it can't go on
            is_sound = await reading
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            for task in (noting, reading):
                task.cancel()
            await asyncio.gather(noting, reading, return_exceptions=True)
            if of.job is not None:
                of.job.progress = of.progress()  # an outage that follows soon is another one
        if not is_sound:
            self.close()
        return self._comparing

    async def _earlier(self, logs: str) -> KnownEqual | None:
        """Return the place through which an earlier backfill knew these logs to be equal."""
        of = self._of
        if of.request.since is not None:
            return None
        text = of.cursor.get(EQUAL) or await latest_place(
            of.pool, of.source.name, of.target.name, everything=of.request.everything
        )
        noted = KnownEqual.noted(text) if text else None
        return noted if noted is not None and noted.logs == logs else None

    async def _keep_noting(self, comparing: RunningComparison) -> None:
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            if self._of.job is not None:
                self._settle(comparing)
                await self._of.note()

    def _settle(self, comparing: RunningComparison) -> None:
        if self._of.request.since is None:
            self._of.cursor[EQUAL] = comparing.settled().note()

    def _examined(self, records: int) -> None:
        self._of.status.examined += records

    async def _append(self, comparing: RunningComparison, partition: int) -> None:
        for wanted in _by(self._of.rate.at_once, comparing.missing(partition)):
            envelopes, refused, gone = await self._envelopes(
                partition, [copy.facts.offset for copy in wanted]
            )
            self._of.status.refused += len(refused)
            self._of.status.erased += len(gone)
            await self._of.append(envelopes)
            for copy in wanted:
                if copy.facts.offset in refused | gone:
                    copy.refuse()
                else:
                    copy.let_go()

    async def _envelopes(
        self, partition: int, offsets: Sequence[str]
    ) -> tuple[list[Envelope], set[str], set[str]]:
        """Read the records at ``offsets``, and make their copies.

        Returns the copies, the offsets of records that can't be copied, and the offsets of records
        whose message was erased. Records that were trimmed meanwhile are left out.
        """
        source, target, key = self._of.source, self._of.target, self._of.source.sort_key
        found, refused, gone = list[Envelope](), set[str](), set[str]()
        left, limit = list(reversed(offsets)), len(offsets)
        while left:
            # Read from just before the next wanted record: a long gap between two of them is
            # skipped.
            after = source.offset_before(left[-1])
            page = await source.read(Topic.MESSAGES, partition, after=after, limit=limit)
            if not page:
                break
            wanted = set[str]()
            while left and key(left[-1]) <= key(page[-1].offset):
                wanted.add(left.pop())
            asked = [record for record in page if record.offset in wanted]
            gone |= await self._erased(asked)
            for record in asked:
                if record.offset not in gone:
                    try:
                        found.append(of_record(record, source, target))
                    except UnicodeError:
                        refused.add(record.offset)
            limit = min(_PAGE, max(_FEWEST, 2 * len(wanted)))
        return found, refused, gone

    async def _erased(self, records: Sequence[Record]) -> set[str]:
        """Return the offsets of erased messages and their receipts: they are copied to no log."""
        named = {record.offset: name for record in records if (name := _message_id(record))}
        gone = await erased(self._of.pool, sorted(set(named.values())))
        return {offset for offset, name in named.items() if name in gone}

    async def _repaired(self, comparing: RunningComparison) -> None:
        """Close the ledger's gaps in the part that was just found complete.

        Only gaps that were noted before it was read: the records of others may not have been met. A
        gap without offsets is closed if the whole log was examined.
        """
        of = self._of
        closed = [
            gap["id"]
            for gap in self._gaps
            if (
                comparing.whole
                if gap["first_offset"] is None
                else comparing.is_equal(gap["partition"], gap["first_offset"], gap["last_offset"])
            )
        ]
        if closed and not of.status.refused:
            await close_gaps(of.pool, closed)
            of.status.gaps_repaired = len(closed)


def _by(number: int, copies: Iterator[MissingCopy]) -> Iterator[list[MissingCopy]]:
    """Yield the copies in lists of ``number`` at most."""
    while chunk := list(islice(copies, number)):
        yield chunk


def _message_id(record: Record) -> str | None:
    """Return the id of the record's message; ``None`` where the record can't be read."""
    try:
        return decode(record).message_id
    except DecodeError:
        return None
