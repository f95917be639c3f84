"""Commits of offsets, for many partitions at a time and only in the current generation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from transport.errors import PartitionLost, TransportError
from transport.kafka.client.errors import translate
from transport.kafka.group.groups import Committed

__all__ = ["Commits"]

_LAND_WITHIN = 1.0


class _Flight:
    """One commit request; ``landed`` gets its error, or ``None``."""

    __slots__ = ("landed", "offsets")

    def __init__(self, landed: asyncio.Future[TransportError | None]) -> None:
        self.landed = landed
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}


class Commits:
    """Coalesces commits: those that arrive while one is under way share the next request.

    aiokafka sends one commit at a time. After an error it sends it again, even in a generation in
    which another member owns the partition. So call ``abort`` before the generation ends.

    Args:
        client: the member's client.
        topic: the topic whose offsets are committed.
        timeout: seconds for one commit.
    """

    def __init__(self, client: AIOKafkaConsumer, topic: str, *, timeout: float) -> None:
        self._client = client
        self._topic = topic
        self._timeout = timeout
        self._boarding: _Flight | None = None
        self._flights: dict[asyncio.Task[None], _Flight] = {}
        self._flying: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.proved_at = float("-inf")
        """When the group last accepted a commit (loop time), which proves our membership then."""

    async def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Commit ``offsets`` (by partition) with their marks.

        Raises:
            PartitionLost: these partitions are no longer assigned to this member.
            TransportUnavailable: it is unknown whether the commit succeeded.
        """
        flight = self._boarding
        if flight is None:
            flight = self._boarding = _Flight(asyncio.get_running_loop().create_future())
            task = asyncio.create_task(self._fly(flight))
            self._flights[task] = flight
            task.add_done_callback(self._landed)
        for partition, (offset, mark) in offsets.items():
            at = TopicPartition(self._topic, partition)
            flight.offsets[at] = OffsetAndMetadata(offset, mark.text())
        error = await asyncio.shield(flight.landed)
        if error is not None:
            raise error

    async def abort(self) -> None:
        """End every commit, since the partitions are lost. One under way gets a moment to finish.

        (If it were cancelled, aiokafka would go on with it, over another connection if need be.)
        """
        for task in self._flights:
            if task is not self._flying:
                task.cancel()
        if self._flying is not None:
            await asyncio.wait([self._flying], timeout=_LAND_WITHIN)
        for task in self._flights:
            task.cancel()
        if self._flights:
            await asyncio.wait(list(self._flights))

    async def _fly(self, flight: _Flight) -> None:
        async with self._turn:
            self._boarding = None  # later commits go into the next request
            self._flying = asyncio.current_task()
            sent_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._client.commit(flight.offsets)
            except Exception as error:  # noqa: BLE001 - any error goes to the callers that wait
                flight.landed.set_result(translate(error))
            else:
                self.proved_at = sent_at
                flight.landed.set_result(None)

    def _landed(self, task: asyncio.Task[None]) -> None:
        flight = self._flights.pop(task)
        if self._flying is task:
            self._flying = None
        if self._boarding is flight:
            self._boarding = None
        if not flight.landed.done():
            flight.landed.set_result(PartitionLost("the partition was revoked during the commit"))
