"""The place in both logs up to which they are known to be equal, so that it is not read again.

It is found while a backfill compares (``EqualPlace``) and kept with the job in ``jobs``. The next
backfill between the same logs begins there, if the marked records still stand.

Why no missing copy is overlooked. Let P be a place in each partition of the source, and Q one in
each of the target, as far as both had been read at one moment. The place is settled once each
original through P was seen to have its copy, or was appended, or is left out on purpose. A log only
grows at its end, so no later drop can lie at or before P. And no copy before Q is of an original
after P. So a comparison that reads on from P and Q meets the copy of each original that has one. No
clock is involved. Only a log that loses records makes this untrue: then the place is given up, and
everything is compared again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import msgspec

from migration_guide.parity.beginning import Beginning
from migration_guide.parity.cells import CellGroup
from migration_guide.parity.comparison import PRIMARY, SHADOW
from migration_guide.parity.facts import Facts, facts_of
from migration_guide.parity.group import GroupComparison
from transport.contract import Topic, Transport
from transport.lookup import record_at

__all__ = ["EqualMark", "EqualPlace", "KnownEqual"]

# How many moments are remembered to which the place may move; older ones are farther apart.
_MOMENTS = 64


class EqualMark(NamedTuple):
    """Identifies a record: its offset, and a digest of its message's name."""

    offset: str
    digest: str

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """Return the mark of a record."""
        return cls(facts.offset, facts.identity.hex())


class KnownEqual(msgspec.Struct, frozen=True):
    """A settled place. ``logs``: the two logs' identities, and how many records they had lost.

    ``marks`` are by partition, of the source and of the target: the source's last record that is
    known to be equal, and the target's first one that has to be read again. ``began``: by the
    source's partition, the offset of the first record that was ever compared.
    """

    logs: str
    marks: tuple[dict[int, EqualMark], dict[int, EqualMark]] = ({}, {})
    began: dict[int, str] = {}

    @classmethod
    def noted(cls, text: str) -> Self:
        """Parse a place from the text that ``note`` returned."""
        return msgspec.json.decode(text, type=cls)

    def note(self) -> str:
        """Return the place as text."""
        return msgspec.json.encode(self).decode()

    def part(self, group: CellGroup) -> Self:
        """Return the place in one group's partitions."""
        primary, shadow = (
            {p: self.marks[side][p] for p in group[side] if p in self.marks[side]}
            for side in (PRIMARY, SHADOW)
        )
        began = {p: self.began[p] for p in group.primary if p in self.began}
        return type(self)(self.logs, (primary, shadow), began)

    def joined(self, other: Self) -> Self:
        """Return this place, with the partitions of another one added or replaced."""
        primary, shadow = (
            {**mine, **its} for mine, its in zip(self.marks, other.marks, strict=True)
        )
        return type(self)(self.logs, (primary, shadow), {**self.began, **other.began})

    async def stands(self, logs: tuple[Transport, Transport]) -> bool:
        """Return whether each mark's record still stands: no log lost it or was set back.

        Also false if a record was trimmed: then little is left to read again.

        Raises:
            TransportUnavailable: a log can't be read.
        """
        for side, log in enumerate(logs):
            for partition, mark in self.marks[side].items():
                record = await record_at(log, Topic.MESSAGES, partition, mark.offset)
                if record is None:
                    return False
                facts = facts_of(
                    record, side, other="", sort_key=log.sort_key, other_key=log.sort_key
                )
                if EqualMark.of(facts) != mark:
                    return False
        return True

    def beginnings(
        self,
        logs: tuple[Transport, Transport],
        begins: tuple[Mapping[int, Beginning], Mapping[int, Beginning]],
    ) -> tuple[dict[int, Beginning], dict[int, Beginning]]:
        """Return ``begins``, moved to the marks."""
        moved = (dict(begins[PRIMARY]), dict(begins[SHADOW]))
        for side, log in enumerate(logs):
            for partition, (offset, _) in self.marks[side].items():
                after = log.offset_before(offset) if side == SHADOW else offset
                if after is not None:
                    moved[side][partition] = moved[side][partition]._replace(
                        after=after, read_after=log.sort_key(after)
                    )
        return moved


class _Moment(NamedTuple):
    """How far a group was read: the source's last records, the target's first to read again."""

    source: Mapping[int, Facts]
    target: Mapping[int, EqualMark]


class EqualPlace:
    """The settled place of one group, while it is compared.

    Args:
        comparison: The group's comparison.
        known: The place, in this group, at which the comparison began.
    """

    def __init__(self, comparison: GroupComparison, known: KnownEqual) -> None:
        self._comparison = comparison
        self._moments: deque[_Moment] = deque()
        self.known = known

    def look(self) -> None:
        """Remember how far the group is read now."""
        comparison = self._comparison
        source = {
            p: extent.latest
            for p, extent in comparison.extents[PRIMARY].items()
            if extent.latest is not None
        }
        early: dict[int, Facts] = {}
        for cell, pair in comparison.comparisons.items():
            copy = pair.first_early_copy(SHADOW)
            other = early.get(cell.shadow)
            if copy is not None and (other is None or copy.place < other.place):
                early[cell.shadow] = copy
        target = {
            q: EqualMark.of(early.get(q, extent.latest))
            for q, extent in comparison.extents[SHADOW].items()
            if extent.latest is not None
        }
        self._moments.append(_Moment(source, target))
        if len(self._moments) > _MOMENTS:
            kept = list(self._moments)
            self._moments = deque((*kept[:-1:2], kept[-1]))

    def settle(self) -> None:
        """Move the place to the latest moment before which no original lacks its copy."""
        waiting = {
            partition: _first(
                pair.first_unpaired(PRIMARY) for pair in self._comparison.of(partition)
            )
            for partition in self._comparison.group.primary
        }
        settled = None
        while self._moments and _is_settled(self._moments[0], waiting):
            settled = self._moments.popleft()
        if settled is not None:
            source = {p: EqualMark.of(facts) for p, facts in settled.source.items()}
            began = {
                p: extent.first_read
                for p, extent in self._comparison.extents[PRIMARY].items()
                if extent.first_read is not None and p not in self.known.began
            }
            self.known = self.known.joined(
                KnownEqual(self.known.logs, (source, dict(settled.target)), began)
            )


def _is_settled(moment: _Moment, waiting: Mapping[int, bytes | None]) -> bool:
    return all(
        (first := waiting[partition]) is None or facts.place < first
        for partition, facts in moment.source.items()
    )


def _first(places: Iterable[bytes | None]) -> bytes | None:
    return min((place for place in places if place is not None), default=None)
