"""Detection of logs that lost their tail: the offset where the loss begins, and its length.

An unclean election, a restored disk or a power cut without flush can remove acknowledged records,
and Kafka gives their offsets to new ones. Kafka does not tell its readers, so the log is compared
with an end that was seen before (``SeenEnd``): the leader epoch of that time ends earlier now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from transport.kafka.loss.identity import TopicDescription
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.loss.mark import Mark, SeenEnd

__all__ = ["TailLoss", "Tails"]


class TailLoss(NamedTuple):
    """A log that lost its tail: the ``lost`` offsets from ``offset`` on have other records now."""

    offset: int
    lost: int


class Tails:
    """Compares the seen ends of the partitions of Kafka's topic ``name`` with the log."""

    def __init__(self, name: str, epochs: LeaderEpochs) -> None:
        self._name = name
        self._epochs = epochs
        self._answers: dict[int, tuple[SeenEnd, int, TailLoss | None]] = {}

    async def lost(
        self, marks: Mapping[int, Mark], topic: TopicDescription, ends: Mapping[int, int]
    ) -> dict[int, TailLoss]:
        """Return the partitions whose logs lost their tails since their marks were made.

        A log only loses its tail when its leader changes. So an end is compared once under each
        leader epoch.

        Args:
            marks: The marks, by partition.
            topic: The topic; partitions without a leader are left out.
            ends: The end of each partition now.

        Raises:
            TransportUnavailable: Kafka can't be asked now.
        """
        found: dict[int, TailLoss] = {}
        unknown: dict[int, tuple[SeenEnd, int]] = {}
        for partition, mark in marks.items():
            leader, seen = topic.leaders.get(partition), mark.seen
            if mark.topic_id != topic.id or leader is None or seen is None:
                continue
            if seen.leader == leader.epoch:
                continue
            answered = self._answers.get(partition)
            if answered is None or answered[:2] != (seen, leader.epoch):
                unknown[partition] = (seen, leader.epoch)
            elif answered[2] is not None:
                found[partition] = answered[2]
        then = await self._epochs.ends(self._name, {p: it.leader for p, (it, _) in unknown.items()})
        for partition, (seen, epoch) in unknown.items():
            end = min(then.get(partition, ends[partition]), ends[partition])
            loss = TailLoss(end, seen.end - end) if end < seen.end else None
            self._answers[partition] = (seen, epoch, loss)
            if loss is not None:
                found[partition] = loss
        return found
