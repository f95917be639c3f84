"""One partition, owned: fenced reads, acknowledgements, and the waits between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from transport.contract import Record, Topic
from transport.errors import PartitionLost
from transport.redis.doorbell import Doorbell
from transport.redis.functions import Functions
from transport.redis.keys import Log, consumer
from transport.redis.line import Reply
from transport.redis.records import records
from transport.redis.trimming import Retention

__all__ = ["RedisClaim"]

_BEGINNING = "0-0"


class RedisClaim:
    """A claim. What it knows of the log is one thing: the last record it was given.

    Each read asks for what was delivered after that record, whoever received it or failed to, and
    for new records only when there is no such one. So takeover, a lost reply, a cancelled call and
    ``nack`` are all the same: start again after a record.
    """

    def __init__(
        self,
        *,
        functions: Functions,
        doorbell: Doorbell,
        log: Log,
        partition: int,
        group: str,
        epoch: int,
        retention: Retention,
        left: Callable[[RedisClaim], Awaitable[None]],
    ) -> None:
        self.topic: Topic = log.topic
        self.partition = partition
        self.epoch = epoch
        self.stream = log.streams[partition]
        self.lease = log.lease(partition, group)
        self.retention = retention
        self._group = group
        self._consumer = consumer(partition)
        self._functions = functions
        self._doorbell = doorbell
        self._left = left
        self._last = _BEGINNING
        self._revoked = False
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether nothing of this claim counts any more."""
        return self._lost

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._left(self)

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the next records in order; see :meth:`transport.contract.Claim.next`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait
        while True:
            if found := await self._read(max_records):
                return found
            remaining = deadline - loop.time()
            if remaining <= 0 or not await self._doorbell.wait(
                self.stream, after=self._last, seconds=remaining
            ):
                return ()

    async def ack(self, through: str) -> None:
        """Acknowledge through ``through``; see :meth:`transport.contract.Claim.ack`."""
        count = await self._call("ack", self._group, self.epoch, through)
        self.retention.acked(count, through)

    async def nack(self) -> None:
        """Deliver the unacknowledged again; see :meth:`transport.contract.Claim.nack`."""
        self._last = _BEGINNING

    def revoke(self) -> None:
        """Have the owner leave: ``next`` raises from now on, ``ack`` still counts."""
        self._revoked = True
        self._doorbell.ring(self.stream)

    def lose(self) -> None:
        """Have every call raise from now on."""
        self._lost = True
        self._doorbell.ring(self.stream)

    async def _read(self, count: int) -> list[Record]:
        if self._revoked:
            raise PartitionLost(f"partition {self.partition} moves to another member")
        reply = await self._call("read", self._group, self._consumer, self.epoch, count, self._last)
        if isinstance(reply, bytes):
            self._last = reply.decode()
            return []
        found = records(self.topic, self.partition, *reply)
        self._last = found[-1].offset
        return found

    async def _call(self, function: str, *arguments: str | int) -> Reply:
        if self._lost:
            raise PartitionLost(f"partition {self.partition} has another owner")
        try:
            return await self._functions.call(function, (self.stream, self.lease), *arguments)
        except PartitionLost:
            self.lose()
            raise
