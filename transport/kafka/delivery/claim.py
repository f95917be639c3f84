"""The claim of one partition by one member of a group, in one generation."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Protocol, Self

from aiokafka import ConsumerRecord

from transport.contract import Blockage, Record, Topic
from transport.errors import PartitionLost, TransportUnavailable
from transport.kafka.delivery.window import Window
from transport.kafka.group.groups import Committed
from transport.kafka.loss.compacted import RemovedBefore
from transport.kafka.loss.mark import Anchor, Mark, SeenEnd, anchor_of, now_ms
from transport.kafka.records import record_of

__all__ = ["KafkaClaim", "Owner"]


class Owner(Protocol):
    """The part of its membership that a claim needs."""

    @property
    def fault(self) -> TransportUnavailable | None:
        """The error while Kafka can't be read, else ``None``."""

    def topic_id(self) -> str | None:
        """Return the topic's id as last seen. It differs from the claim's if the topic is new."""

    async def commit(self, partition: int, committed: Committed) -> None:
        """Commit an offset with its mark; raises ``PartitionLost`` or ``TransportUnavailable``."""

    def is_membership_confirmed(self) -> bool:
        """Return whether the group has confirmed our membership recently enough."""

    def seen(self, partition: int) -> SeenEnd | None:
        """Return the end of the partition's log as last seen, and its leader then."""

    def handed_back(self, claim: KafkaClaim) -> None:
        """Note that the claim's user has left it, though the partition is still ours."""


class _ClaimState(Enum):
    OWNED = "owned"
    ENDING = "ending"  # the log went back: deliver the fetched records, then claim it again
    LEAVING = "leaving"  # the group revokes it: no more records, but finished ones may be acked
    LOST = "lost"


class _Leaders:
    """The leader epochs of the records in the window. Elections are rare, so the list is short."""

    def __init__(self, leader: int) -> None:
        self._changes = [(-1, leader)]

    def note(self, offset: int, leader: int) -> None:
        """Note the leader epoch of the records from ``offset`` on."""
        if self._changes[-1][1] != leader:
            self._changes.append((offset, leader))

    def of(self, offset: int) -> int:
        """Return the leader epoch of ``offset``, which is acknowledged now; forget earlier ones."""
        while len(self._changes) > 1 and self._changes[1][0] <= offset:
            del self._changes[0]
        return self._changes[0][1]


class KafkaClaim:
    """See ``transport.contract.Claim``."""

    def __init__(
        self, owner: Owner, *, topic: Topic, partition: int, start: int, mark: Mark
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.epoch = mark.epoch
        self.blocked: Blockage | None = None
        self.window = Window(start)
        self.topic_id = mark.topic_id
        self._owner = owner
        self.lost_records = mark.lost
        self._lost_at = mark.lost_at
        self._removed: deque[RemovedBefore] = deque()
        self.leader = mark.last.leader if mark.last else -1
        """The leader epoch of the last fetched records. If it changes, the log may differ."""
        self._last = mark.last
        self._seen = mark.seen
        self._leaders = _Leaders(self.leader)
        self._state = _ClaimState.OWNED
        self._in_use = False
        self._changed = asyncio.Event()

    @property
    def owned(self) -> bool:
        """Whether records may still be delivered."""
        return self.assigned and not self._is_topic_gone

    @property
    def assigned(self) -> bool:
        """Whether the partition is still ours, even if the topic seems to be another one.

        Just after a topic was made anew, a broker with old metadata may say so.
        """
        return self._state in (_ClaimState.OWNED, _ClaimState.ENDING)

    @property
    def reading(self) -> bool:
        """Whether the claim takes in fetched records."""
        return self._state is _ClaimState.OWNED and not self._is_topic_gone

    @property
    def lost(self) -> bool:
        """Whether the claim is void: the partition has another owner, or its topic is gone."""
        return self._state is _ClaimState.LOST or self._is_topic_gone

    async def __aenter__(self) -> Self:
        self._in_use = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._in_use = False
        still_owned = self.assigned
        self.lose()
        if still_owned:
            self._owner.handed_back(self)

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """See ``transport.contract.Claim.next``."""
        self._require_owned()
        self._in_use = True
        if not self.window.ready:
            await self._arrival(max_wait)
            self._require_owned()
        if self._state is _ClaimState.ENDING and not self.window.unacknowledged:
            self.lose()
            self._owner.handed_back(self)
            raise self._loss()
        if not self.window.ready:
            if self._owner.fault is not None:
                raise self._owner.fault
            return ()
        if not self._owner.is_membership_confirmed():
            # After a suspension or an idle time, the partition may have another owner by now.
            await self._owner.commit(self.partition, self._committed(self.window.acked, self._last))
            self._require_owned()
        return self.window.take(max_records)

    async def ack(self, through: str) -> None:
        """See ``transport.contract.Claim.ack``."""
        if self.lost:
            raise self._loss()
        # Include known offsets without a record after it (markers of transactions, for example):
        # they would count as unread.
        offset = self.window.next_after(int(through) + 1)
        if offset <= self.window.acked:
            return
        record = self.window.before(offset)
        while self._removed and self._removed[0].offset < offset:
            self.lose_records(self._removed.popleft().removed)
        last = anchor_of(record, self._leaders.of(int(record.offset))) if record else self._last
        committed = self._committed(offset, last)
        await self._owner.commit(self.partition, committed)
        self._last, self._seen = last, committed.mark.seen
        self.window.ack(offset)
        if self._state is _ClaimState.ENDING:
            self._changed.set()

    async def nack(self) -> None:
        """See ``transport.contract.Claim.nack``."""
        self._require_owned()
        self.window.rewind()
        self._changed.set()

    async def raise_epoch(self, above: int) -> None:
        """See ``transport.contract.Claim.raise_epoch``.

        The epoch is in the mark of every commit, and the group takes commits only from the current
        owner.
        """
        if self.lost:
            raise self._loss()
        self.epoch = max(self.epoch, above) + 1
        await self._owner.commit(self.partition, self._committed(self.window.acked, self._last))

    @property
    def newest(self) -> Anchor | None:
        """The last fetched record, or else the last record acknowledged before the claim."""
        last = self.window.last
        return self._last if last is None else anchor_of(last, self.leader)

    @property
    def last_offset(self) -> int:
        """The offset of ``newest``; -1 without one."""
        if self.window.last is not None:
            return int(self.window.last.offset)
        return self._last.at if self._last is not None else -1

    def receive(self, records: Sequence[ConsumerRecord], leader: int = -1) -> int:
        """Take fetched records in; return how many offsets were missing before the first new one.

        Records that come again after the client was set back are skipped.

        Args:
            records: The records, in order.
            leader: The leader epoch under which the first was appended.
        """
        expected = self.window.fetched
        new = [record for record in records if record.offset >= expected]
        if not new:
            return 0
        topic = self.topic
        self._leaders.note(int(new[0].offset), leader)
        self.leader = leader
        self.window.add([(record.offset, record_of(topic, record)) for record in new])
        self._changed.set()
        return int(new[0].offset) - expected

    def pass_over(self, offset: int) -> None:
        """Note that no record is to come below ``offset``: offsets before it have none."""
        self.window.pass_over(offset)

    def gap(self) -> Committed | None:
        """Return the commit that acknowledges offsets without a record after the last one, if due.

        They are committed once when they are passed, and again once the log was seen to go on after
        them: that tells other processes that no record has taken their place.
        """
        window = self.window
        # The check that mostly ends it comes first: this runs each second for each idle claim.
        if window.unacknowledged or (
            window.fetched <= window.acked and not self._is_mark_outdated()
        ):
            return None
        if not self.reading:
            return None
        return self._committed(window.fetched, self._last)

    def _is_mark_outdated(self) -> bool:
        """Return whether the log was seen to go on after a committed gap, unlike its mark says."""
        place = self.window.acked
        if self._last is None or self._last.at + 1 >= place:
            return False
        now = self._owner.seen(self.partition)
        is_seen = self._seen is not None and self._seen.end >= place
        return not is_seen and now is not None and now.end >= place

    def back_over_gap(self) -> bool:
        """Read the offsets without a record after the last one again; return whether there are any.

        If the log was cut there, they may have records by now.
        """
        newest = self.newest
        return newest is not None and self.window.back_to(newest.at + 1)

    def passed(self, gap: Committed) -> None:
        """Note that a ``gap`` is committed."""
        self._seen = gap.mark.seen
        self.window.ack(gap.offset)

    def lose_records(self, count: int) -> None:
        """Count records that the log removed before they were read."""
        self.lost_records += count
        self._lost_at = now_ms() if count else self._lost_at

    def lose_before(self, removed: Iterable[RemovedBefore]) -> None:
        """Count removed records, each once the record after them is acknowledged.

        Until then the next owner would find them missing too, and count them again.
        """
        self._removed.extend(removed)

    def finish(self) -> None:
        """Take in no more records, but deliver the fetched ones, which the log may have lost.

        When all are acknowledged, the claim is handed back.
        """
        if self._state is _ClaimState.OWNED:
            self._state = _ClaimState.ENDING
            self._changed.set()

    def wake(self) -> None:
        """Make a waiting ``next`` look at the state again."""
        self._changed.set()

    def revoke(self) -> None:
        """Deliver no more records: the group revokes the partition. ``ack`` still counts."""
        if self.assigned:
            self._state = _ClaimState.LEAVING
            self._changed.set()

    def lose(self) -> None:
        """Mark the partition as lost: every call raises from now on."""
        self._state = _ClaimState.LOST
        self._changed.set()

    async def left(self) -> None:
        """Wait until no caller uses the claim any longer."""
        while self._in_use:
            self._changed.clear()
            await self._changed.wait()

    async def _arrival(self, max_wait: float) -> None:
        is_late = False

        def expire() -> None:
            nonlocal is_late
            is_late = True
            self._changed.set()

        # Cheaper than asyncio.timeout, which cancels through the frames of all callers. The wait of
        # an idle claim always ends by this timer.
        timer = asyncio.get_running_loop().call_later(max_wait, expire)
        try:
            while self.owned and not self.window.ready and self._owner.fault is None:
                if is_late or (
                    self._state is _ClaimState.ENDING and not self.window.unacknowledged
                ):
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            timer.cancel()

    @property
    def _is_topic_gone(self) -> bool:
        """Whether the claim's topic was deleted: the offsets of a new one mean other records."""
        return self._owner.topic_id() != self.topic_id

    def _committed(self, offset: int, last: Anchor | None) -> Committed:
        seen = self._owner.seen(self.partition) or self._seen
        mark = Mark(self.epoch, self.lost_records, self.topic_id, last, seen, self._lost_at)
        return Committed(offset, mark)

    def _require_owned(self) -> None:
        if not self.owned:
            raise self._loss()

    def _loss(self) -> PartitionLost:
        return PartitionLost(f"partition {self.partition} is assigned anew")
