"""The claim of one partition: delivers its records, waits for more, and ends with its lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from transport.contract import AckEnded, Record, Taker
from transport.errors import PartitionLost, TopicMissing
from transport.redis.append.own_appends import OwnAppends, Run
from transport.redis.delivery.append_notifier import AppendNotifier
from transport.redis.delivery.hand_over_pauses import HandOverPauses
from transport.redis.delivery.inbox import Inbox
from transport.redis.delivery.joint_acks import DueAck, JointAcks
from transport.redis.delivery.kept_runs import KeptBytes, KeptRuns
from transport.redis.delivery.slot_notifiers import SlotNotifiers
from transport.redis.delivery.trimming import Retention
from transport.redis.delivery.unread_deliveries import UnreadDeliveries

__all__ = ["RedisClaim"]


class RedisClaim:
    """See ``transport.contract.HandingClaim`` and ``RetainingClaim``."""

    blocked = None

    def __init__(
        self,
        inbox: Inbox,
        notifier: AppendNotifier | SlotNotifiers,
        *,
        retention: Retention,
        own_appends: OwnAppends,
        kept: KeptBytes,
        acks: JointAcks,
        left: Callable[[RedisClaim], Awaitable[None]],
    ) -> None:
        self.topic = inbox.topic
        self.partition = inbox.partition
        self.stream = inbox.stream
        self.lease = inbox.lease
        self.retention = retention
        self._inbox = inbox
        self._notifier = notifier
        self._left = left
        self._unread = UnreadDeliveries()
        self._own_appends = own_appends
        self._acks = acks
        self._kept = KeptRuns(kept)
        self._taker: Taker | None = None
        self._is_needed: Callable[[], bool] | None = None
        self.is_waiting = False
        """Whether ``next`` waits for something to read."""
        self._is_refused = False
        self._must_read = False
        self._pauses = HandOverPauses()
        self._was_handed = False  # whether records were handed over during the current wait
        self._revoked = False
        self._lost = False

    @property
    def epoch(self) -> int:
        """The current fencing number."""
        return self._inbox.epoch

    @property
    def lost(self) -> bool:
        """Whether the partition is lost: every call raises then."""
        return self._lost

    @property
    def awaits_acks(self) -> bool:
        """Whether reading pauses until the handed-over records are acknowledged."""
        return self._unread.is_awaited

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._leave_appends()
        if not any(isinstance(error, asyncio.CancelledError) for error in exc):
            await self._all_acknowledged()
        await self._left(self)

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the next records in order; see ``transport.contract.Claim.next``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait
        may_skip = max_wait > 0  # only the first look: the notifier may miss an entry
        while True:
            self._check_may_read()
            self._rejoin(loop.time())
            self._hand_kept()
            is_quiet = may_skip and not self._must_read and self._is_quiet()
            if self._unread.any and not is_quiet:
                # The entries to read come after the handed-over ones. Hand over nothing more before
                # they are read: under steady appends that would never end.
                await self._all_acknowledged()
                self._check_may_read()  # revoked: its next owner waits for all it reads
            try:
                found = [] if is_quiet else await self._inbox.read(max_records)
            except PartitionLost:
                self.lose()
                raise
            except TopicMissing:
                self._notifier.forget(self.stream)  # ids of the new stream may be lower
                raise
            may_skip = self._must_read = False
            if found:
                self._note_read(loop.time())
            remaining = deadline - loop.time()
            if found or remaining <= 0:
                return found
            if self._lost or self._revoked:
                continue  # that happened during the read, when no wait could be ended by a ring
            if not await self._wait(remaining):
                return []

    async def ack(self, through: str) -> None:
        """Acknowledge the records through ``through``; see ``transport.contract.Claim.ack``."""
        self._check()
        try:
            count = await self._inbox.ack(through)
        except PartitionLost:
            self.lose()
            raise
        self.retention.acked(count, through)

    async def nack(self) -> None:
        """Deliver unacknowledged records again; see ``transport.contract.Claim.nack``."""
        self._check()
        self._inbox.rewind()

    async def raise_epoch(self, above: int) -> None:
        """Raise the epoch above ``above``; see ``transport.contract.Claim.raise_epoch``."""
        self._check()
        try:
            await self._inbox.raise_epoch(above)
        except PartitionLost:
            self.lose()
            raise

    def retain(self, is_needed: Callable[[], bool]) -> None:
        """See ``transport.contract.RetainingClaim.retain``."""
        self._is_needed = is_needed

    @property
    def may_trim(self) -> bool:
        """Whether acknowledged records may be trimmed once their retention is over."""
        return self._is_needed is None or not self._is_needed()

    def hand_over(self, take: Taker) -> None:
        """See ``transport.contract.HandingClaim.hand_over``."""
        self._taker = take
        self._own_appends.join(self.partition, self)

    def _note_read(self, now: float) -> None:
        self._kept.drop_through(self._inbox.heard)
        if self._taker is not None and self._pauses.note_read(now):
            self._leave_appends()

    def _rejoin(self, now: float) -> None:
        if self._pauses.resumes(now):
            self._own_appends.join(self.partition, self)

    def _leave_appends(self) -> None:
        self._own_appends.leave(self.partition, self)
        self._kept.forget()

    def offer(self, run: Run, *, is_last: bool) -> None:
        """Hand over records that this process appended, or keep them until they come next."""
        rest = run.after(self._inbox.heard)
        if rest is None:
            return  # the records were read before the answer to their append arrived
        if self.is_waiting and self._hand(rest):
            if self._kept.any:
                self._hand_kept()
            return
        self._kept.keep(rest)
        if is_last and self.is_waiting:
            self._must_read = True
            self._notifier.ring(self.stream)

    def _hand_kept(self) -> None:
        inbox = self._inbox
        while inbox.may_follow(inbox.heard) and (run := self._kept.pop_after(inbox.heard)):
            if not self._hand(run):
                self._must_read = True
                return

    def _hand(self, run: Run) -> bool:
        """Hand over records if ``next`` would return them now; return whether they were taken."""
        inbox = self._inbox
        if self._is_refused or self._lost or self._revoked or self._taker is None:
            return False
        if not inbox.may_follow(run.before):
            return False
        last = run.last
        # Note the records first: the taker may pass them at once.
        self._unread.take(run.before, last, run.last_message, len(run.offsets))
        if not self._taker(run.records()):
            self._unread.take_back()
            return False
        inbox.follow(last)
        self._was_handed = True
        self._notifier.heard(self.stream, last)
        return True

    def passed(self, through: str, ended: AckEnded | None = None) -> None:
        """See ``transport.contract.HandingClaim.passed``."""
        if not self._lost and self._unread.passed(through, ended):
            self._acks.add(self)
            if self._unread.is_awaited:
                self._acks.hurry(self)
        elif ended:
            ended(None)

    def refused(self) -> None:
        """See ``transport.contract.HandingClaim.refused``."""
        if not self._unread.any:
            return  # the claim already went back
        self._is_refused = True
        if self._unread.may_drop:
            self._go_back()
        else:
            self._acks.hurry(self)

    def begin_ack(self) -> DueAck | None:
        """Return the acknowledgement that is due now, if any."""
        return self._unread.begin_ack()

    def acked(self, count: int, through: str, began: int) -> None:
        """Note that ``count`` handed-over records, through ``through``, are acknowledged.

        ``began``: when the call began, in nanoseconds.
        """
        self._unread.acked(through, began)
        self.retention.acked(count, through)
        self._inbox.note_ack(through)
        if self._is_refused and self._unread.may_drop:
            self._go_back()

    def not_acked(self, error: Exception) -> None:
        """Note that an acknowledgement failed; go back to the group's position, and read."""
        if isinstance(error, PartitionLost):
            self.lose()
        self._go_back()

    def _go_back(self) -> None:
        self._is_refused = False
        self._must_read = True
        self._inbox.go_back(self._unread.drop())
        self._notifier.ring(self.stream)

    async def _all_acknowledged(self) -> None:
        """Return once all handed-over records are acknowledged."""
        if not self._lost:
            self._acks.hurry(self)
            await self._unread.none_left()

    def revoke(self) -> None:
        """Ask the owner to leave: ``next`` raises from now on, ``ack`` still counts."""
        self._revoked = True
        self._notifier.ring(self.stream)

    def lose(self) -> None:
        """Mark the partition as lost: every call raises from now on."""
        self._lost = True
        self._unread.drop()
        self._notifier.ring(self.stream)

    async def _wait(self, seconds: float) -> bool:
        """Wait for an append; return whether to look for new entries.

        ``False`` if records were handed over during the wait, and nothing rang.
        """
        self.is_waiting, self._was_handed = True, False
        try:
            rung = await self._notifier.wait(self.stream, after=self._inbox.heard, seconds=seconds)
        finally:
            self.is_waiting = False
        return rung or not self._was_handed

    def _is_quiet(self) -> bool:
        """Return whether a look is needless: the notifier has noticed no append since the last."""
        inbox = self._inbox
        if self._unread.any:
            # The notifier knows of the records that were handed over, and can listen after them.
            self._notifier.watch(self.stream, after=inbox.heard)
        return inbox.is_at_end and self._notifier.is_quiet(self.stream, after=inbox.heard)

    def _check(self) -> None:
        if self._lost:
            raise PartitionLost(f"partition {self.partition} has another owner")

    def _check_may_read(self) -> None:
        self._check()
        if self._revoked:
            raise PartitionLost(f"partition {self.partition} moves to another member")
