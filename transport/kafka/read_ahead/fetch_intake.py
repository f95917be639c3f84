"""Takes in the answers to fetches: what a partition's records, leader epochs and damage say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice

from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition

from transport.contract import Record, Topic
from transport.kafka.client.damaged import Damage, damage_of
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.read_ahead.batches import BatchHead, batch_heads, count_removed
from transport.kafka.read_ahead.damaged_batches import begin_wait
from transport.kafka.read_ahead.fetches import Fetched, unpacked
from transport.kafka.read_ahead.followed import FollowedPartition
from transport.kafka.read_ahead.read_log import ReadLog
from transport.kafka.records import record_of

__all__ = ["FetchIntake"]

log = logging.getLogger(__name__)


class FetchIntake:
    """Adds fetched records to their partitions, and compares leader epochs with the log.

    A log that lost its tail gives the lost offsets to other records, under a later leader epoch. So
    a reader whose position was in the lost tail gets the records from the cut on, at offsets that
    it may have passed before.

    Args:
        topics: Crossfade's topics, by their names in Kafka.
        epochs: Asks for the ends of leader epochs.
        reads: What was read of each partition.
        known_epoch: Returns the leader epoch at the last position that any process published.
        patience: Seconds until a damaged batch is passed: enough to find a leader that moved.
    """

    def __init__(
        self,
        topics: Mapping[str, Topic],
        *,
        epochs: LeaderEpochs,
        reads: ReadLog,
        known_epoch: Callable[[TopicPartition], Awaitable[int | None]],
        patience: float,
    ) -> None:
        self._topics = topics
        self._epochs = epochs
        self._reads = reads
        self._known_epoch = known_epoch
        self._patience = patience

    async def take_in(self, part: FollowedPartition, fetched: Fetched, asked: int) -> None:
        """Take in the answer to a fetch at ``asked``.

        Raises:
            TransportUnavailable: Kafka can't be asked for the end of a leader epoch now.
            CorruptRecordException: The answer has data, and no record.
        """
        heads = list(batch_heads(fetched.data))
        await self._look_up_epoch(part)
        is_continued = not heads or part.epoch in (None, heads[0].epoch)
        if not is_continued and not await self.is_intact(part):
            return
        start = part.fetched
        if part.is_closed or asked > start or (asked < start and heads and heads[-1].end <= start):
            return  # it was cut, or all of these are in memory
        if part.handed and heads:
            if not self._confirm(part, fetched, heads) or part.fetched == heads[-1].end:
                return
            start = part.fetched
        records, following = unpacked(part.at, fetched, start)
        if following <= start and asked < start:
            return
        if following == start:
            raise CorruptRecordException(str(part.at))
        if records and (damage := damage_of(records[0])) is not None:
            if not self._may_pass(part, damage):
                return
            self._reads.note_removed(part.at, records[0].offset + 1, damage.records)
        else:
            self._note_removed(part, fetched.data, following, [raw.offset for raw in records])
            self._note_epochs(part, heads, following)
        topic = self._topics[part.at.topic]
        self._add(part, [record_of(topic, raw) for raw in records], following)

    async def is_intact(self, part: FollowedPartition) -> bool:
        """Return whether the log still has the records before ``part.fetched``; else go back.

        Raises:
            TransportUnavailable: Kafka can't be asked now.
        """
        await self._look_up_epoch(part)
        epoch, number = part.epoch, part.at.partition
        if epoch is None:
            return True
        end = (await self._epochs.ends(part.at.topic, {number: epoch})).get(number)
        if part.epoch != epoch:
            return False  # another answer was compared with the log meanwhile
        if end is not None and end >= part.fetched:
            return True
        # A log that knows no such epoch was restored with its metadata: it is read from the start.
        self._cut(part, end or 0)
        return False

    async def intact_end(self, at: TopicPartition, start: int) -> int:
        """Return ``start``, or where the log was cut if it lost records before ``start``.

        Raises:
            TransportUnavailable: Kafka can't be asked now.
        """
        epoch = self._reads.epoch(at, start - 1)
        if epoch is None:
            return start
        end = (await self._epochs.ends(at.topic, {at.partition: epoch})).get(at.partition)
        return min(end or 0, start)

    async def _look_up_epoch(self, part: FollowedPartition) -> None:
        """Find the leader epoch at the partition's first position, unless it is known."""
        if part.is_epoch_known:
            return
        epoch = self._reads.epoch(part.at, part.fetched - 1)
        if epoch is None and part.fetched > 0:
            epoch = await self._known_epoch(part.at)
        if not part.is_epoch_known:
            part.is_epoch_known, part.epoch = True, epoch
            self._reads.begin(part.at, epoch)

    def _confirm(
        self, part: FollowedPartition, fetched: Fetched, heads: Sequence[BatchHead]
    ) -> bool:
        """Return whether the log has the records that were handed over; else go back to them.

        Under one leader epoch a log only grows. A later one may have begun before they were
        appended, or afterwards with a log that had lost them. So they are compared then.
        """
        start, end = part.fetched, min(part.following, heads[-1].end)
        if any(head.epoch != part.epoch for head in heads):
            found, _ = unpacked(part.at, fetched, start)
            kept = [(raw.offset, raw.key, raw.value) for raw in found if raw.offset < end]
            if kept != [
                (int(record.offset), record.key.encode(), record.body)
                for record in islice(part.handed, end - start)
            ]:
                self._cut(part, start)
                return False
            self._note_epochs(part, heads, end)
        part.confirm(end)
        if part.epoch is not None:
            self._reads.note_end(part.at, end, part.epoch)
        return True

    def _cut(self, part: FollowedPartition, offset: int) -> None:
        log.warning(
            "A partition is read again from an earlier offset: Kafka elected a leader whose log "
            "ends there. If it lost records, they are counted",
            extra={"topic": part.at.topic, "partition": part.at.partition, "offset": offset},
        )
        part.cut(offset)

    def _note_epochs(self, part: FollowedPartition, heads: Sequence[BatchHead], end: int) -> None:
        for head in heads:
            if head.end > part.fetched and head.base < end:
                self._note_epoch(part, head.epoch, max(head.base, part.fetched))

    def _note_epoch(self, part: FollowedPartition, epoch: int, offset: int) -> None:
        part.is_confirmed = True
        if part.epoch != epoch:
            self._reads.note(part.at, max(offset, part.noted_from), epoch)
            part.epoch = epoch

    def _note_removed(
        self, part: FollowedPartition, data: bytes, end: int, present: Sequence[int]
    ) -> None:
        if count := count_removed(data, part.fetched, end, present):
            self._reads.note_removed(part.at, end, count)
            log.error(
                "Compaction removed records before they were read: set the topic's cleanup.policy "
                "to delete, and run `crossfade audit`",
                extra={"topic": part.at.topic, "partition": part.at.partition, "lost": count},
            )

    def _may_pass(self, part: FollowedPartition, damage: Damage) -> bool:
        """Return whether to return a damaged batch as a record; if not, it is fetched again."""
        now, wait = asyncio.get_running_loop().time(), part.damaged
        if wait is None or wait.offset != part.fetched:
            wait = begin_wait(part.at, part.fetched, now)
        elif wait.is_over(damage, now, patience=self._patience):
            return True
        part.damaged = wait.logged_again(damage, now, patience=self._patience)
        part.is_confirmed = False
        return False

    def _add(self, part: FollowedPartition, records: Sequence[Record], following: int) -> None:
        part.add(records, following)
        if part.epoch is not None:
            self._reads.note_end(part.at, following, part.epoch)
