"""From the source's log: exact copies of the records that the target lacks."""

from __future__ import annotations

from migration_guide.backfill.appending import BackfillAppends
from migration_guide.backfill.copies import of_record
from migration_guide.backfill.ledger import close_gaps, open_gaps
from migration_guide.backfill.plan import Plan, find_missing
from transport.contract import Envelope, Topic

__all__ = ["FromLog"]

_PAGE = 500


class FromLog:
    """The rounds of one backfill."""

    def __init__(self, of: BackfillAppends) -> None:
        self._of = of
        self._source = of.source
        self._first = True

    async def round(self) -> bool:
        """Compare, append missing records, and return whether there were any."""
        status = self._of.status
        with Plan() as plan:
            await self._compare(plan)
            if not plan.total:
                await self._repaired(plan)
                return False
            status.stage = "appending"
            status.missing = status.appended + status.present + status.refused + plan.total
            for partition in range(self._source.partitions):
                await self._partition(plan, partition)
        return True

    async def count(self) -> int:
        """Return the number of records that a round would append."""
        with Plan() as plan:
            await self._compare(plan)
            return plan.total

    async def _compare(self, plan: Plan) -> None:
        status, request = self._of.status, self._of.request
        status.stage = "comparing"
        await find_missing(
            self._source,
            self._of.target,
            plan,
            since=request.since,
            limits=request.limits,
            cursor=self._of.cursor,
            everything=request.everything,
            examined=self._examined,
        )
        if self._first:
            status.uncopied, self._first = plan.uncopied, False

    def _examined(self, records: int) -> None:
        self._of.status.examined += records

    async def _partition(self, plan: Plan, partition: int) -> None:
        place = b""
        while wanted := plan.after(partition, place, self._of.rate.at_once):
            place = wanted[-1][0]
            envelopes = await self._envelopes(partition, [offset for _, offset in wanted])
            await self._of.append(envelopes, {str(partition): wanted[-1][1]})

    async def _envelopes(self, partition: int, offsets: list[str]) -> list[Envelope]:
        """Read the records at ``offsets``. What the log has trimmed meanwhile is left out."""
        found: list[Envelope] = []
        key = self._source.sort_key
        wanted, last = set(offsets), key(offsets[-1])
        after, place = self._source.offset_before(offsets[0]), b""
        while place < last:
            page = await self._source.read(Topic.MESSAGES, partition, after=after, limit=_PAGE)
            if not page:
                break
            for record in page:
                if record.offset in wanted:
                    try:
                        found.append(of_record(record, self._source, self._of.target))
                    except UnicodeError:
                        self._of.status.refused += 1
            after = page[-1].offset
            place = key(after)
        return found

    async def _repaired(self, plan: Plan) -> None:
        """Close the ledger's gaps that lie where everything was just seen to be there.

        A gap without a noted place is closed if the whole log was examined.
        """
        key, pool = self._source.sort_key, self._of.pool
        closed = [
            gap["id"]
            for gap in await open_gaps(pool, self._source.name, self._of.target.name, plan.until)
            if (
                plan.whole
                if gap["first_offset"] is None
                else plan.held[gap["partition"]] <= key(gap["first_offset"])
            )
        ]
        if closed and not self._of.status.refused:
            await close_gaps(pool, closed)
            self._of.status.gaps_repaired = len(closed)
