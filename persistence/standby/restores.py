"""Find out whether another log's workers still have to put back rows that PostgreSQL lost.

A failover or a restore takes rows of acknowledged records. The workers of their log put them back
before they write anything new (``persistence.worker.recovery.catch_up``). This log has newer
messages of the same conversations, and they would come before the restored rows.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from persistence.database.outage import OutageBarrier
from persistence.store.writer import Writer
from persistence.worker.recovery.positions import acknowledged_through, is_behind
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import TransportError
from transport.shadow.homes import counterpart

__all__ = ["Restores"]


class Restores:
    """Asks on behalf of ``log``. ``others`` are the other logs that this process has open."""

    def __init__(
        self,
        log: Transport,
        others: Sequence[Transport],
        writer: Writer,
        database_barrier: OutageBarrier,
    ) -> None:
        self._log = log
        self._others = others
        self._writer = writer
        self._database_barrier = database_barrier
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._latest: dict[str, tuple[float, Sequence[Progress]]] = {}

    async def are_due(self, records: Iterable[Record], stop: asyncio.Event) -> bool:
        """Return whether rows must be put back first, from logs that (would) have the records.

        ``True`` also if a log can't be asked now, because then it is not known.
        """
        asked = list(records)
        for other in self._others:
            homes = {counterpart(record, self._log, other) for record in asked}
            try:
                if await self._is_due(other, homes, stop):
                    return True
            except TransportError:
                return True
        return False

    async def any_is_due(self, stop: asyncio.Event) -> bool:
        """Return whether rows must be put back first from any partition of the other logs.

        ``True`` also if a log can't be asked now, because then it is not known.
        """
        for other in self._others:
            try:
                homes = {part.partition for part in await self._progress(other)}
                if await self._is_due(other, homes, stop):
                    return True
            except TransportError:
                return True
        return False

    async def _is_due(self, other: Transport, homes: set[int], stop: asyncio.Event) -> bool:
        # The group's position first: records acknowledged in between are then no gap.
        progress = await self._progress(other)
        if any(part.unavailable for part in progress if part.partition in homes):
            return True
        acknowledged = {part.partition: acknowledged_through(part) for part in progress}
        partitions = sorted(homes)

        async def ask() -> list[str | None]:
            return await asyncio.gather(
                *(self._writer.position(other.name, partition) for partition in partitions)
            )

        found = await self._database_barrier.run(ask, stop)
        # Without a known position nothing is put back: nobody has read that partition yet, or only
        # the previous release has. Waiting for it would be the deadlock that a standby has to
        # prevent.
        return any(
            through is not None and is_behind(other, through, acknowledged[partition])
            for partition, through in zip(partitions, found, strict=True)
        )

    async def _progress(self, other: Transport) -> Sequence[Progress]:
        """Return the progress of the workers' group, as of this call or later."""
        wanted = time.monotonic()
        async with self._turns[other.name]:  # one query answers all callers that wait
            asked, progress = self._latest.get(other.name, (float("-inf"), ()))
            if asked < wanted:
                asked = time.monotonic()
                progress = await other.progress(Topic.MESSAGES, group=WORKER_GROUP)
                self._latest[other.name] = asked, progress
        return progress
