"""The place in both logs up to which they are known to be equal, so that it is not read again.

It is found while a backfill compares (``EqualPlace``), kept with the job in ``jobs``, and
taken up by the next backfill from the same log into the same one, if the marks still stand there.

Why nothing is missed that way. Let P be a place in each partition of the source, and Q one in each
of the target, as far as both had been read at one moment. The place is settled once every original
through P was seen to have its copy, or was appended, or is left out on purpose. A log only grows at
its end, so no later drop can lie at or before P. And no copy before Q is of an original after P, so
who reads on from P and Q meets the copy of each original that has one. No clock is asked. What can
make it untrue is a log that loses records: then the place is given up, and all is compared again.
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

# Of the moments at which the place may have been, so many are remembered, ever farther apart.
_MOMENTS = 64


class EqualMark(NamedTuple):
    """A record: its offset, and the digest of its message's name, by which it is known again."""

    offset: str
    digest: str

    @classmethod
    def of(cls, facts: Facts) -> Self:
        """Return the mark of a record."""
        return cls(facts.offset, facts.identity.hex())


class KnownEqual(msgspec.Struct, frozen=True):
    """A settled place. ``logs`` tells which two logs it is of, and how much those had lost.

    ``marks`` are by partition, of the source and of the target: the source's last record that is
    known, and the target's first one that has to be read again. ``began`` has, by the source's
    partition, the offset of the first record that was ever compared.
    """

    logs: str
    marks: tuple[dict[int, EqualMark], dict[int, EqualMark]] = ({}, {})
    began: dict[int, str] = {}

    @classmethod
    def noted(cls, text: str) -> Self:
        """Return the place that ``note`` wrote."""
        return msgspec.json.decode(text, type=cls)

    def note(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(self).decode()

    def part(self, group: CellGroup) -> Self:
        """Return the part of it that is of one group."""
        primary, shadow = (
            {p: self.marks[side][p] for p in group[side] if p in self.marks[side]}
            for side in (PRIMARY, SHADOW)
        )
        began = {p: self.began[p] for p in group.primary if p in self.began}
        return type(self)(self.logs, (primary, shadow), began)

    def joined(self, other: Self) -> Self:
        """Return it with what another one of the same logs has in its place, or beside it."""
        primary, shadow = (
            {**mine, **its} for mine, its in zip(self.marks, other.marks, strict=True)
        )
        return type(self)(self.logs, (primary, shadow), {**self.began, **other.began})

    async def stands(self, logs: tuple[Transport, Transport]) -> bool:
        """Return whether each mark's record is still there: no log lost it, or was set back.

        Also false where it was trimmed: then what is left is short.

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
    """How far a group was read: the source's last records, and the target's first ones to read."""

    source: Mapping[int, Facts]
    target: Mapping[int, EqualMark]


class EqualPlace:
    """The settled place of one group, while it is compared.

    Args:
        comparison: Of the group.
        known: The group's part of the place where the comparison began.
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
