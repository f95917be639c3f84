"""Passing of gaps: offsets without a record at the end of a partition are acknowledged.

Such offsets belong to markers of transactions, and to aborted or compacted records. Only the client
knows that it has passed them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from transport.errors import PartitionLost, TransportUnavailable
from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.group.commits import Commits
from transport.kafka.log import TopicLayout

__all__ = ["GapPassing"]

_EVERY = 0.2  # seconds
_POSITION_WITHIN = 0.05


class GapPassing:
    """Moves the claims of one member past gaps; ``claims`` has them by partition."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        claims: Mapping[int, KafkaClaim],
        *,
        source: TopicLayout,
        commits: Commits,
    ) -> None:
        self._client = client
        self._claims = claims
        self._source = source
        self._commits = commits
        self._next_look = 0.0
        self._commit: asyncio.Task[None] | None = None
        self.readable: Mapping[int, int] = {}
        """The end of each partition for a reader of committed records, as last seen."""

    async def look(self, count_lost: Callable[[KafkaClaim, int], Awaitable[None]]) -> None:
        """Move claims past gaps.

        Call it between two fetches, when all records that the client has passed are in the claims.

        ``count_lost``: called with a claim, and the offset that it expected next.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_look:
            return
        self._next_look = loop.time() + _EVERY
        for claim in list(self._claims.values()):
            expected = claim.window.fetched
            if expected >= self.readable.get(claim.partition, 0):
                continue
            position = await self._position(claim.partition)
            if position is not None and position > expected and claim.reading:
                await count_lost(claim, expected)
                claim.pass_over(position)
        under_way = self._commit is not None and not self._commit.done()
        if not under_way and any(claim.gap() for claim in self._claims.values()):
            self._commit = asyncio.create_task(self._acknowledge())

    async def _acknowledge(self) -> None:
        # Ask for the gaps here, so that nothing is committed for claims that were lost meanwhile.
        gaps = [(claim, gap) for claim in self._claims.values() if (gap := claim.gap()) is not None]
        try:
            await self._commits.commit({claim.partition: gap for claim, gap in gaps})
        except (PartitionLost, TransportUnavailable):
            return  # the next look tries again, if the claims are still ours
        for claim, gap in gaps:
            claim.passed(gap)

    async def _position(self, partition: int) -> int | None:
        """Return the offset that the client fetches next; ``None`` while it is looking it up."""
        try:
            async with asyncio.timeout(_POSITION_WITHIN):
                position: int = await self._client.position(self._source.at(partition))
        except (TimeoutError, KafkaError):
            return None
        return position
