"""One partition, owned: the batches, the waits between them, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from transport.contract import Record
from transport.errors import PartitionLost, TopicMissing
from transport.redis.append_notifier import AppendNotifier
from transport.redis.inbox import Inbox
from transport.redis.trimming import Retention

__all__ = ["RedisClaim"]


class RedisClaim:
    """See ``transport.contract.Claim``."""

    blocked = None

    def __init__(
        self,
        inbox: Inbox,
        notifier: AppendNotifier,
        *,
        retention: Retention,
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
        self._revoked = False
        self._lost = False

    @property
    def epoch(self) -> int:
        """The fencing number, as it is now."""
        return self._inbox.epoch

    @property
    def lost(self) -> bool:
        """Whether nothing of this claim counts any more."""
        return self._lost

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._left(self)

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the next records in order; see ``transport.contract.Claim.next``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait
        may_skip = max_wait > 0  # the first look, and only that: the notifier may miss something
        while True:
            self._check()
            if self._revoked:
                raise PartitionLost(f"partition {self.partition} moves to another member")
            try:
                found = [] if may_skip and self._is_quiet() else await self._inbox.read(max_records)
            except PartitionLost:
                self.lose()
                raise
            except TopicMissing:
                self._notifier.forget(self.stream)  # ids may begin anew, below what it listens to
                raise
            may_skip = False
            remaining = deadline - loop.time()
            if found or remaining <= 0:
                return found
            if self._lost or self._revoked:
                continue  # while it read: no claim waited then, so none was woken
            await self._notifier.wait(self.stream, after=self._inbox.heard, seconds=remaining)

    async def ack(self, through: str) -> None:
        """Acknowledge through ``through``; see ``transport.contract.Claim.ack``."""
        self._check()
        try:
            count = await self._inbox.ack(through)
        except PartitionLost:
            self.lose()
            raise
        self.retention.acked(count, through)

    async def nack(self) -> None:
        """Deliver the unacknowledged again; see ``transport.contract.Claim.nack``."""
        self._check()
        self._inbox.rewind()

    async def raise_epoch(self, above: int) -> None:
        """Exceed ``above``; see ``transport.contract.Claim.raise_epoch``."""
        self._check()
        try:
            await self._inbox.raise_epoch(above)
        except PartitionLost:
            self.lose()
            raise

    def revoke(self) -> None:
        """Have the owner leave: ``next`` raises from now on, ``ack`` still counts."""
        self._revoked = True
        self._notifier.ring(self.stream)

    def lose(self) -> None:
        """Have every call raise from now on."""
        self._lost = True
        self._notifier.ring(self.stream)

    def _is_quiet(self) -> bool:
        """Return whether nothing was appended since the last look, as far as can be known here."""
        inbox = self._inbox
        return inbox.is_at_end and self._notifier.is_quiet(self.stream, after=inbox.heard)

    def _check(self) -> None:
        if self._lost:
            raise PartitionLost(f"partition {self.partition} has another owner")
