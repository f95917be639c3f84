"""The comparison of one cell of two logs, record by record. No I/O; memory bounded by ``waiting``.

Records come in the order of each log; the two logs may be interleaved in any way (merging them by
time keeps the fewest records waiting). A pair is complete when the second of its records is read.
Another record of the same conversation may still wait at that moment, before a record of the pair
in its log. Its own counterpart is still to be read, so that counterpart stands after the pair in
the other log: the pair has passed it. Every two messages in opposite order are found this way,
exactly once, however the logs were interleaved (``migration_guide.parity.order`` classifies them).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import UNSET

from migration_guide.parity import order
from migration_guide.parity.cells import Cell
from migration_guide.parity.extent import Extent
from migration_guide.parity.facts import Facts, Mode
from migration_guide.parity.result import DIFFERENCES, ParityCounts, ParityResult, Sample
from migration_guide.parity.waiting import UnpairedRecords
from otel.tracing.context import checked, sampled_trace_id

__all__ = ["Comparison", "ParityLimits"]

PRIMARY, SHADOW = 0, 1
_MISSING_IN = (ParityResult.MISSING_IN_PRIMARY, ParityResult.MISSING_IN_SHADOW)


class ParityLimits(msgspec.Struct, frozen=True):
    """Limits of a comparison's memory, and delays before it judges.

    ``settle``: seconds that a copy may take before it counts as missing. ``tolerance``: seconds by
    which the clocks of ingress and logs may differ. ``in_memory``: for each partition, how many
    records may wait in memory, and how many message ids are remembered to recognise duplicates.
    ``samples``: how many are kept for each result and partition.
    """

    settle: float = 10.0
    tolerance: float = 0.05
    in_memory: int = 10_000
    samples: int = 10


class Comparison:
    """Compares the records of one cell; keeps counts and samples.

    Assign a callback to ``found``: it gets each result and its number, negative where a result is
    taken back. Times are seconds since the epoch. Pairs are (primary, shadow).

    Args:
        cell: The two partitions that are compared.
        extents: The extents of these two partitions.
        limits: How long copies may take, and how much is kept.
        since: Originals that were appended earlier are not judged.
        until: Originals that were appended later are not judged.
        mirrored: The time since which every process copies before it acknowledges, if known.
    """

    def __init__(
        self,
        cell: Cell,
        extents: tuple[Extent, Extent],
        limits: ParityLimits,
        *,
        since: float = 0.0,
        until: float = float("inf"),
        mirrored: float | None = None,
    ) -> None:
        self.cell = cell
        self.extents = extents
        self.totals = ParityCounts()
        self.samples: list[Sample] = []
        self.repaired = 0
        self.last_difference = 0.0
        self.found: Callable[[ParityResult, int], None] | None = None
        self.mirrored = mirrored
        self._limits = limits
        self._since = since
        self._until = until
        self._waiting = UnpairedRecords(limits.in_memory)
        self._paired: OrderedDict[bytes, bytes] = OrderedDict()
        self._sampled: dict[ParityResult, int] = {}
        self._stop: list[bytes | None] = [None, None]

    def close(self) -> None:
        """Close the temporary file."""
        self._waiting.close()

    @property
    def waiting(self) -> int:
        """Number of records kept in memory."""
        return self._waiting.held

    def lag(self, side: int) -> int:
        """Number of originals of a log whose copies may still come."""
        return self._waiting.young[side]

    def read(self, facts: Facts) -> Facts | None:
        """Take the next record of its log. Return it if its original has to be looked up.

        The caller then looks up the record at ``facts.mirror`` and passes it to ``answered``.
        """
        self.extents[facts.side].passed(facts)
        if facts.mirror is None:
            self._original(facts)
            return None
        return self._copy(facts, 1 - facts.side)

    def answered(self, facts: Facts, original: Facts | None) -> None:
        """Judge a copy that ``read`` returned: its original was read before, or is gone.

        ``original`` is the record that stands at ``facts.mirror`` now, ``None`` if there is none.
        """
        if original is not None and not self._took_its_place(original, facts):
            self._count(ParityResult.DUPLICATE, facts, None, "one more copy of the same record")
        else:
            self._orphaned(facts)

    def ripe(self, side: int, before: float = float("inf")) -> list[Facts]:
        """Return some records of a log whose counterparts had time to come and did not.

        The other log may have trimmed a counterpart since the comparison began, or may remember the
        message of an original from before that. So look up where it begins now, update its extent,
        and set ``known`` of such originals. Then call ``judge``, and ask for more.

        Records appended at ``before`` or later are left: the next monitor begins there, and would
        count them a second time.
        """
        return self._waiting.ripe(side, self._ripe_before(side, before))

    def judge(self, ripe: Sequence[Facts]) -> None:
        """Judge the records that ``ripe`` returned."""
        for facts in ripe:
            if facts.mirror is not None:
                self._waiting.take(facts)
                self._orphaned(facts)
            else:
                self._judge(facts, 1 - facts.side)

    def take_samples(self) -> list[Sample]:
        """Return the samples, and make room for new ones."""
        taken, self.samples, self._sampled = self.samples, [], {}
        return taken

    def judged(self, side: int) -> Iterator[Facts]:
        """Yield the originals of a log that were judged missing or trimmed, in the log's order."""
        return self._waiting.judged(side)

    def first_unpaired(self, side: int) -> bytes | None:
        """Return the place of the first original of a log that still lacks its copy."""
        return self._waiting.first_original(side)

    def first_young(self, side: int) -> bytes | None:
        """Return the place of the first original of a log that is too young to be judged."""
        return self._waiting.first_original(side, young=True)

    def first_early_copy(self, side: int) -> Facts | None:
        """Return the first copy in a log whose original has not been read yet."""
        return self._waiting.first_copy(side)

    def keep(self, facts: Facts) -> None:
        """Store the changed facts of a record that waits."""
        self._waiting.keep(facts)

    def let_go(self, facts: Facts) -> None:
        """Stop waiting for a record's counterpart."""
        self._waiting.take(facts)

    def result(self) -> ParityCounts:
        """Return the counts, including records that are not judged yet."""
        totals = ParityCounts(dict(self.totals.counts))
        totals.add(ParityResult.NOT_YET_COMPARABLE, sum(self._waiting.young))
        return totals

    def _original(self, facts: Facts) -> None:
        side = facts.side
        copy = self._waiting.take_copy(side, facts.offset)
        if facts.appended_at > self._until:
            self._stop[side] = self._stop[side] or facts.place
            return
        if facts.appended_at < self._since:
            return
        if copy is not None and self._took_its_place(facts, copy):
            self._orphaned(copy)
            copy = None
        if copy is None:
            # Each log may have a producer's record of the message (the sender retried after the
            # primary changed), or copies that name no original.
            copy = self._waiting.take_twin(1 - side, facts.identity)
        if copy is not None:
            self._pair(facts, copy)
            return
        facts.known = self._paired.get(facts.identity)
        self._waiting.add(facts)

    def _copy(self, facts: Facts, home: int) -> Facts | None:
        """Take a copy of a record of the log ``home``."""
        assert facts.mirror is not None
        extent = self.extents[home]
        place, begin, stop = facts.mirror_place, extent.begin, self._stop[home]
        if place <= extent.read_after:
            self._remember(facts)
            return None  # its original is from before the window
        original = self._waiting.take_original(home, facts.mirror)
        if original is not None:
            self._pair(original, facts)
        elif place <= extent.cursor:
            if begin is None or place < begin or (stop is not None and place >= stop):
                self._remember(facts)
                return None  # its original is outside the window
            return facts
        elif stop is None and not self._waiting.add(facts):
            self._count(ParityResult.DUPLICATE, facts, None, "one more copy of the same record")
        return None

    def _pair(self, first: Facts, second: Facts) -> None:
        """Compare two records of one message. If one of them is a copy, it is ``second``."""
        if first.judged is not None:
            self._add(first.judged, -1)
            self._forget_sample(first)
            self.repaired += 1
        if (first.identity, first.body, first.beside) == (
            second.identity,
            second.body,
            second.beside,
        ):
            self._add(ParityResult.MATCHED)
        else:
            self._count(ParityResult.DIFFERENT_BYTES, first, second, _differing(first, second))
        self._remember(first)
        self._settle_order(first, second)

    def _settle_order(self, first: Facts, second: Facts) -> None:
        pair = (first, second) if first.side == PRIMARY else (second, first)
        for here in pair:
            waiting = self._waiting.before(here.side, here.scope, here.place)
            if not waiting:
                continue
            by = order.passing(
                here,
                pair[1 - here.side],
                tolerance=self._limits.tolerance,
                mirrored=self.mirrored,
            )
            for passed in waiting:
                order.passed(passed, by)
                self._waiting.keep(passed)
        for facts, counterpart in ((first, second), (second, first)):
            found = order.classified(facts, counterpart, mirrored=self.mirrored)
            for result, count in found.items():
                detail = f"passed by message {facts.passed_by}"
                self._count(result, first, second, detail, count, other=facts.passed_by)

    def _ripe_before(self, side: int, before: float) -> float:
        """Return the time of append before which the waiting records of a log can be judged."""
        return min(before, self.extents[1 - side].reach - self._limits.settle)

    def _judge(self, facts: Facts, other: int) -> None:
        if facts.known is not None:
            self._waiting.take(facts)
            if facts.known == facts.content:
                self._count(
                    ParityResult.DUPLICATE, facts, None, "both logs hold another record of it"
                )
            else:
                detail = "both logs hold another body under its key"
                self._count(ParityResult.CONFLICT, facts, None, detail)
            return
        held = facts.appended_at >= self.extents[other].held_from
        if held and (facts.mode is Mode.ORIGINAL):
            result, detail = _MISSING_IN[other], "no copy"
        else:
            result, detail = ParityResult.TRIMMED, "the other log does not hold its time"
        facts.judged = result
        self._waiting.keep(facts)
        self._count(result, facts, None, detail)

    def _orphaned(self, facts: Facts) -> None:
        """Judge a copy whose original is not in its log."""
        home = 1 - facts.side
        if facts.mirror_place < self.extents[home].first_held:
            return  # trimmed: it was compared in its time, by its own log's record
        self._count(_MISSING_IN[home], facts, None, f"its original {facts.mirror} is gone")

    def _took_its_place(self, there: Facts, copy: Facts) -> bool:
        """Return whether the log has given the offset of a copy's original to another record.

        A log that lost its tail does so. A record younger than the copy can't be its original.
        """
        younger = there.appended_at > copy.appended_at + self._limits.tolerance
        return younger and there.identity != copy.identity

    def _forget_sample(self, facts: Facts) -> None:
        for sample in self.samples:
            offset = (sample.primary_offset, sample.shadow_offset)[facts.side]
            if sample.result is facts.judged and offset == facts.offset:
                self.samples.remove(sample)
                self._sampled[sample.result] -= 1
                return

    def _remember(self, paired: Facts) -> None:
        """Remember that both logs have a record of this message."""
        for facts in self._waiting.same(paired.identity):
            if facts.known is None and facts.mirror is None:
                facts.known = paired.content
                self._waiting.keep(facts)
        self._paired[paired.identity] = paired.content
        self._paired.move_to_end(paired.identity)
        if len(self._paired) > self._limits.in_memory:
            self._paired.popitem(last=False)

    def _add(self, result: ParityResult, count: int = 1) -> None:
        self.totals.add(result, count)
        if self.found:
            self.found(result, count)

    def _count(
        self,
        result: ParityResult,
        facts: Facts,
        counterpart: Facts | None,
        detail: str,
        count: int = 1,
        *,
        other: str | None = None,
    ) -> None:
        self._add(result, count)
        if result in DIFFERENCES:
            self.last_difference = max(self.last_difference, facts.appended_at)
        if self._sampled.get(result, 0) >= self._limits.samples or result is ParityResult.TRIMMED:
            return
        self._sampled[result] = self._sampled.get(result, 0) + 1
        offsets: list[str | None] = [None, None]
        offsets[facts.side] = facts.offset
        if counterpart is not None:
            offsets[counterpart.side] = counterpart.offset
        elif facts.mirror is not None:
            offsets[1 - facts.side] = facts.mirror
        self.samples.append(
            Sample(
                result,
                self.cell.primary,
                facts.message_id,
                offsets[PRIMARY],
                offsets[SHADOW],
                facts.correlation_id,
                sampled_trace_id(checked(facts.traceparent)),
                detail,
                other,
                UNSET if self.cell.primary == self.cell.shadow else self.cell.shadow,
            )
        )


def _differing(first: Facts, second: Facts) -> str:
    parts = {
        "the message": first.identity == second.identity,
        "the body": first.body == second.body,
        "a header or the key": first.beside == second.beside,
    }
    return f"{', '.join(part for part, is_same in parts.items() if not is_same)} differs"
