"""Consumer groups in memory: the owners of partitions, and their positions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Self

from transport.assignment import fair_shares
from transport.contract import Claim, Record
from transport.errors import PartitionLost
from transport.memory.partition import MemoryPartition

__all__ = ["MemoryClaim", "MemoryConsumer", "MemoryGroup"]


class MemoryGroup:
    """The positions of one group in the partitions of a topic, and their owners."""

    def __init__(self, partitions: Sequence[MemoryPartition]) -> None:
        self.partitions = partitions
        self.acked = [p.first for p in partitions]  # everything below is acknowledged
        self.delivered = list(self.acked)  # everything below was delivered at least once
        self.deliveries: list[dict[int, int]] = [{} for _ in partitions]
        self.claims: list[MemoryClaim | None] = [None] * len(partitions)
        self.members: dict[str, MemoryConsumer] = {}

    def move(self, number: int, end: int) -> None:
        """Set the position of a partition, forward or back: everything below ``end`` is settled."""
        records = self.partitions[number]
        end = min(max(end, records.first), records.end)  # lag counts records that are there
        for offset in range(self.acked[number], end):
            self.deliveries[number].pop(offset, None)
        self.acked[number] = end
        self.delivered[number] = max(self.delivered[number], end)

    def share(self) -> None:
        """Give each member its fair share; an owner of too many finishes its batch first."""
        if not self.members:
            return
        owners = [claim.member if claim else None for claim in self.claims]
        for number, member in enumerate(fair_shares(sorted(self.members), owners)):
            claim = self.claims[number]
            if claim is None:
                claim = MemoryClaim(self, self.partitions[number], member)
                self.claims[number] = claim
                self.members[member].arrived.put_nowait(claim)
            elif claim.member != member:
                claim.revoke()

    def expel(self, member: str) -> None:
        """Take all partitions from ``member`` at once, as if its lease had expired."""
        self.members.pop(member, None)
        for claim in list(self.claims):
            if claim and claim.member == member:
                claim.lose()
        self.share()


class MemoryClaim:
    """See ``transport.contract.Claim``."""

    blocked = None

    def __init__(self, group: MemoryGroup, partition: MemoryPartition, member: str) -> None:
        self.topic = partition.topic
        self.partition = partition.number
        self.epoch = partition.next_epoch()
        self.member = member
        self._group = group
        self._records = partition
        self._next = group.acked[partition.number]
        self._revoked = False
        self._lost = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.lose()
        self._group.share()

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the next records in order; see the contract."""
        deadline = time.monotonic() + max_wait
        while True:
            self._check()
            if self._revoked:
                raise PartitionLost(f"partition {self.partition} moves to another member")
            found = self._records.since(self._next, max_records)
            remaining = deadline - time.monotonic()
            if found or remaining <= 0:
                return [self._delivered(record) for record in found]
            await self._records.wait(remaining)

    async def ack(self, through: str) -> None:
        """Acknowledge the records through ``through``; see the contract."""
        self._check()
        group, number = self._group, self.partition
        group.move(number, max(group.acked[number], int(through) + 1))

    async def nack(self) -> None:
        """Deliver unacknowledged records again; see the contract."""
        self._check()
        self._next = self._group.acked[self.partition]

    async def raise_epoch(self, above: int) -> None:
        """Raise the epoch above ``above``; see the contract."""
        self._check()
        self.epoch = self._records.next_epoch(above)

    def revoke(self) -> None:
        """Ask the owner to leave: ``next`` raises from now on, ``ack`` still counts."""
        self._revoked = True
        self._records.wake()

    def lose(self) -> None:
        """Mark the partition as lost: every call raises from now on."""
        self._lost = True
        if self._group.claims[self.partition] is self:
            self._group.claims[self.partition] = None
        self._records.wake()

    def _check(self) -> None:
        if self._lost:
            raise PartitionLost(f"partition {self.partition} has another owner")

    def _delivered(self, record: Record) -> Record:
        offset, group = int(record.offset), self._group
        counts = group.deliveries[self.partition]
        counts[offset] = counts.get(offset, 0) + 1
        self._next = offset + 1
        group.delivered[self.partition] = max(group.delivered[self.partition], offset + 1)
        return Record(
            record.topic,
            record.partition,
            record.offset,
            record.key,
            record.body,
            record.headers,
            record.appended_at,
            counts[offset],
        )


class MemoryConsumer:
    """See ``transport.contract.Consumer``."""

    def __init__(self, group: MemoryGroup, member: str) -> None:
        self.arrived: asyncio.Queue[MemoryClaim | None] = asyncio.Queue()
        self._group = group
        self._member = member

    async def __aenter__(self) -> Self:
        self._group.members[self._member] = self
        self._group.share()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._group.expel(self._member)
        self.arrived.put_nowait(None)

    async def claims(self) -> AsyncIterator[Claim]:
        """Yield partitions as they come; see the contract."""
        while (claim := await self.arrived.get()) is not None:
            yield claim
        self.arrived.put_nowait(None)
