"""Continuity: checks that the logs of a member's claims still have the records that were read.

A partition is checked before it is claimed, against the group's mark, and later whenever something
may have happened to its log. ``transport.kafka.loss.tails`` compares the log, and
``transport.kafka.loss.seen_ends`` bounds the unread records that it lost.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

from aiokafka.structs import TopicPartition

from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.group.groups import Committed
from transport.kafka.loss.identity import Leader, TopicDescription
from transport.kafka.loss.mark import SeenEnd
from transport.kafka.loss.seen_ends import SeenEnds
from transport.kafka.loss.tails import KnownTail, TailLoss, Tails
from transport.kafka.loss.topic_ids import TopicIds

__all__ = ["Continuity"]

log = logging.getLogger(__name__)


class Continuity:
    """Checks the partitions of Kafka's topic ``name`` that one member claims."""

    def __init__(self, name: str, *, ids: TopicIds, tails: Tails) -> None:
        self._name = name
        self._ids = ids
        self._tails = tails
        self._seen_ends = SeenEnds()
        self._remembered: dict[int, KnownTail] = {}
        self._counted: dict[int, int] = {}

    def seen(self, partition: int) -> SeenEnd | None:
        """Return the end of a partition's log as last seen; ``None`` if it is not known."""
        return self._seen_ends.of(partition)

    def lost_before(self, partition: int) -> int:
        """Return the uncommitted losses of a claim whose log went back."""
        return self._counted.get(partition, 0)

    # Making claims.

    async def tail_losses(
        self, partitions: Iterable[int], committed: Mapping[int, Committed], topic: TopicDescription
    ) -> Mapping[TopicPartition, TailLoss]:
        """Find the partitions to claim whose logs went back, and the offsets.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        tails = {self._at(p): self._known(p, committed.get(p), topic.id) for p in partitions}
        return await self._tails.tail_losses(tails, topic.leaders)

    def claimed(
        self, partitions: Iterable[int], tail_losses: Mapping[TopicPartition, TailLoss]
    ) -> None:
        """Note that these are claimed, and that their marks count the losses."""
        for partition in partitions:
            self._remembered.pop(partition, None)
            self._counted.pop(partition, None)
            self._seen_ends.forget(partition)
        for at, tail_loss in tail_losses.items():
            log.error(
                "Kafka lost the end of a partition: reading goes on from `offset`. "
                "Run `crossfade audit`; see docs/durability.md, Kafka",
                extra={
                    "topic": self._name,
                    "partition": at.partition,
                    "offset": tail_loss.offset,
                    "lost": tail_loss.lost,
                },
            )

    def revoked(self) -> None:
        """Forget our claims' tails and losses: the next owner counts losses by the group's mark."""
        self._remembered.clear()
        self._counted.clear()

    # Existing claims.

    async def broken(self, claims: Sequence[KafkaClaim]) -> Mapping[KafkaClaim, KnownTail]:
        """Return the claims whose logs lost their remembered tails, with these tails.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        tails = {self._at(claim.partition): self._known_by(claim) for claim in claims}
        if not any(of.anchors or of.seen_ends for of in tails.values()):
            return {}
        topic = await self._ids.describe(self._name)
        tail_losses = await self._tails.tail_losses(tails, topic.leaders)
        found = {claim: self._at(claim.partition) for claim in claims}
        return {claim: tails[at] for claim, at in found.items() if at in tail_losses}

    def remember(self, claim: KafkaClaim, tail: KnownTail) -> None:
        """Remember the tail and losses of a broken claim for our next claim of its partition."""
        self._remembered[claim.partition] = tail
        self._counted[claim.partition] = claim.lost_records

    def look(
        self,
        read: Mapping[KafkaClaim, int],
        ends: Mapping[int, int],
        leaders: Mapping[int, Leader],
        *,
        doubtful: bool,
    ) -> tuple[list[KafkaClaim], Collection[int]]:
        """Note the ends and leaders of a look at the log.

        Args:
            read: For each claim, the next offset to fetch before the look.
            ends: The end of each partition.
            leaders: The leader of each partition.
            doubtful: Whether the last look failed.

        Returns:
            The claims to compare with the log, and the partitions whose leader changed. If the
            comparison finds nothing broken, pass these partitions to ``whole``.
        """
        ours = {claim.partition for claim in read}
        changed = self._seen_ends.look({p: end for p, end in ends.items() if p in ours}, leaders)
        suspects = [
            claim
            for claim, place in read.items()
            if doubtful or claim.partition in changed or ends.get(claim.partition, place) < place
        ]
        return suspects, changed

    def whole(self, partitions: Iterable[int]) -> None:
        """Note that these partitions have lost nothing since their former leaders."""
        for partition in partitions:
            self._seen_ends.forget(partition)

    def _known(self, partition: int, committed: Committed | None, topic_id: str) -> KnownTail:
        ours = self._remembered.get(partition, KnownTail())
        return (
            ours if committed is None else ours.merged_with(KnownTail.by(committed.mark, topic_id))
        )

    def _known_by(self, claim: KafkaClaim) -> KnownTail:
        newest, seen = claim.newest, self._seen_ends.of(claim.partition)
        return KnownTail((newest,) if newest else (), (seen,) if seen else ())

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._name, partition)
