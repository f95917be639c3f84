"""Detection of logs that lost their tail: the offset where the loss begins, and its length.

An unclean election, a restored disk or a power cut without flush can remove acknowledged records,
and Kafka gives their offsets to new ones. A committed offset then no longer means that the records
before it were read. Kafka does not tell its consumers, so they compare the log with the end that
they remember (``Anchor`` and ``SeenEnd``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from aiokafka.structs import TopicPartition

from transport.contract import Topic
from transport.kafka.loss.identity import Leader
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.loss.mark import Anchor, Mark, SeenEnd, anchor_of
from transport.kafka.reader import KafkaReader
from transport.kafka.records import record_of

__all__ = ["KnownTail", "TailLoss", "Tails"]


class KnownTail(NamedTuple):
    """The remembered end of one partition, from the group's mark and from this process."""

    anchors: tuple[Anchor, ...] = ()
    seen_ends: tuple[SeenEnd, ...] = ()

    @classmethod
    def by(cls, mark: Mark, topic_id: str) -> Self:
        """Return the tail that a mark remembers of the topic with this id."""
        if mark.topic_id != topic_id:
            return cls()
        return cls((mark.last,) if mark.last else (), (mark.seen,) if mark.seen else ())

    def merged_with(self, other: KnownTail) -> KnownTail:
        """Return a tail with the anchors and ends of both."""
        return KnownTail(self.anchors + other.anchors, self.seen_ends + other.seen_ends)


class TailLoss(NamedTuple):
    """A log that went back: read it from ``offset`` on; ``lost`` offsets were removed.

    ``last`` is the record before ``offset``, which is still there; ``None`` if unknown.
    """

    offset: int
    lost: int
    last: Anchor | None = None


class _LogBounds(NamedTuple):
    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]


class Tails:
    """Compares the remembered tails of the partitions of ``topic`` with the log.

    ``name`` is Kafka's name of the topic.
    """

    def __init__(
        self, topic: Topic, name: str, *, reader: KafkaReader, epochs: LeaderEpochs
    ) -> None:
        self._topic = topic
        self._name = name
        self._reader = reader
        self._epochs = epochs
        self._answers: dict[TopicPartition, tuple[KnownTail, int, TailLoss | None]] = {}

    async def cached_tail_losses(
        self, known: Mapping[TopicPartition, KnownTail], leaders: Mapping[int, Leader]
    ) -> Mapping[TopicPartition, TailLoss]:
        """Return the same as ``tail_losses``, for callers that ask repeatedly.

        A log only loses its tail when its leader changes. So a tail is compared only if it was
        noted under another leader epoch, and once under each epoch.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        compared: dict[TopicPartition, KnownTail] = {}
        found: dict[TopicPartition, TailLoss] = {}
        for at, of in known.items():
            leader = leaders.get(at.partition)
            if leader is None or all(
                noted.leader == leader.epoch for noted in of.anchors + of.seen_ends
            ):
                continue
            answered = self._answers.get(at)
            if answered is None or answered[:2] != (of, leader.epoch):
                compared[at] = of
            elif answered[2] is not None:
                found[at] = answered[2]
        new = await self.tail_losses(compared, leaders)
        for at, of in compared.items():
            self._answers[at] = (of, leaders[at.partition].epoch, new.get(at))
        return {**found, **new}

    async def tail_losses(
        self, known: Mapping[TopicPartition, KnownTail], leaders: Mapping[int, Leader]
    ) -> Mapping[TopicPartition, TailLoss]:
        """Return the partitions whose log went back, with offsets and losses.

        ``leaders`` are the current leaders.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        where = list(known)
        if not where:
            return {}
        # Asked after the tails were noted: from then on a log only grows, unless it lost records.
        begins, ends = await asyncio.gather(self._reader.begins(where), self._reader.ends(where))
        state = _LogBounds(begins, ends)
        gone = await self._gone({at: of.anchors for at, of in known.items()}, state)
        cut = await self._cut({at: of.seen_ends for at, of in known.items()}, state, leaders)
        if not gone and not cut:
            return {}
        oldest = {at: min(anchors, key=_place) for at, anchors in gone.items()}
        back = await self._back(oldest, state)
        return {at: _combined(back.get(at), gone.get(at, ()), cut.get(at)) for at in {*gone, *cut}}

    async def _gone(
        self, anchors: Mapping[TopicPartition, Sequence[Anchor]], state: _LogBounds
    ) -> Mapping[TopicPartition, Sequence[Anchor]]:
        """Return the anchors that the log has lost, other than by retention.

        Retention may also remove records during the comparison, so the beginnings of the logs are
        asked for again at its end.
        """
        gone: dict[TopicPartition, list[Anchor]] = {}
        for turn in range(max(map(len, anchors.values()), default=0)):
            query = {
                at: of[turn]
                for at, of in anchors.items()
                if len(of) > turn and of[turn].at >= state.begins[at]
            }
            there = await self._at({at: anchor.at for at, anchor in query.items()}, state)
            absent = {
                at.partition: anchor.leader
                for at, anchor in query.items()
                if at not in there and anchor.leader >= 0
            }
            ends = await self._epochs.ends(self._name, absent)
            for at, anchor in query.items():
                found = there.get(at)
                if found is None and ends.get(at.partition, -1) > anchor.at:
                    continue  # compaction removed it: the log goes on after it under its leader
                if found is None or (found.time, found.digest) != (anchor.time, anchor.digest):
                    gone.setdefault(at, []).append(anchor)
        if not gone:
            return {}
        begins = await self._reader.begins(list(gone))
        held = {at: [anchor for anchor in of if anchor.at >= begins[at]] for at, of in gone.items()}
        return {at: of for at, of in held.items() if of}

    async def _cut(
        self,
        seen_ends: Mapping[TopicPartition, Sequence[SeenEnd]],
        state: _LogBounds,
        leaders: Mapping[int, Leader],
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return, for each log that was once seen longer, the offset of its cut and its old end."""
        cut: dict[TopicPartition, tuple[int, int]] = {}
        for turn in range(max(map(len, seen_ends.values()), default=0)):
            asked = {at: of[turn] for at, of in seen_ends.items() if len(of) > turn}
            then = {
                at.partition: seen.leader
                for at, seen in asked.items()
                if (leader := leaders.get(at.partition)) and leader.epoch != seen.leader
            }
            ends = await self._epochs.ends(self._name, then)
            for at, seen in asked.items():
                end = min(ends.get(at.partition, state.ends[at]), state.ends[at])
                if end < seen.end:
                    lowest, known = cut.get(at, (end, seen.end))
                    cut[at] = (min(lowest, end), max(known, seen.end))
        return cut

    async def _back(
        self, gone: Mapping[TopicPartition, Anchor], state: _LogBounds
    ) -> Mapping[TopicPartition, _Cut]:
        """Return the offset at which each log was cut; it is at most the offset of its anchor."""
        ends = await self._epochs.ends(
            self._name, {at.partition: of.leader for at, of in gone.items() if of.leader >= 0}
        )
        places = {
            at: ends[at.partition]
            for at, anchor in gone.items()
            if state.begins[at] <= ends.get(at.partition, -1) <= min(anchor.at, state.ends[at])
        }
        before = await self._at({at: place - 1 for at, place in places.items()}, state)
        cuts: dict[TopicPartition, _Cut] = {}
        for at, anchor in gone.items():
            place, last = places.get(at), before.get(at)
            if last is not None and last.time > anchor.time:
                # This record is younger than the lost one, so it was appended later. The epochs
                # went back as well, as if a whole node was restored, and rose to the same numbers.
                place = None
            if place is None or (last is None and place > state.begins[at]):
                begin = state.begins[at]
                cuts[at] = _Cut(begin, max(begin, min(anchor.at, state.ends[at])))
            else:
                kept = last and Anchor(last.at, last.time, last.digest, anchor.leader)
                cuts[at] = _Cut(place, place, kept)
        return cuts

    async def _at(
        self, places: Mapping[TopicPartition, int], state: _LogBounds
    ) -> Mapping[TopicPartition, Anchor]:
        held = {at: place for at, place in places.items() if place >= state.begins[at]}
        found = await self._reader.at_each(held, state.ends)
        return {at: anchor_of(record_of(self._topic, raw), -1) for at, raw in found.items()}


class _Cut(NamedTuple):
    """A cut: read again from ``offset``; the lost records begin at ``at``.

    If the cut is unknown, ``offset`` is the beginning of the log.
    """

    offset: int
    at: int
    last: Anchor | None = None


def _place(anchor: Anchor) -> int:
    return anchor.at


def _combined(
    read: _Cut | None, gone: Iterable[Anchor], unread: tuple[int, int] | None
) -> TailLoss:
    """Return one loss for the lost records that were read, and those that were only seen."""
    known = max([anchor.at + 1 for anchor in gone], default=0)
    if unread is None:
        assert read is not None
        return TailLoss(read.offset, known - read.at, read.last)
    cut, end = unread
    if read is None:
        return TailLoss(cut, end - cut)
    return TailLoss(read.offset, max(known, end) - read.at, read.last)
