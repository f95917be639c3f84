"""Copy the dead-letter log to the table ``dead_letters``, with the group ``dlq-processors``.

The log makes a dead letter durable before its source record is acknowledged. The table lets
operators list, redrive and discard it. Any process may index; the letters are one partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog

from otel.metrics import Metrics
from persistence.database.outage import Paused, database_barrier, log_barrier, unless_stopped
from persistence.database.pool import Pool
from persistence.dead_letters.index import DeadLetterIndex
from persistence.errors import FenceLost
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from persistence.worker.claims import Claims
from persistence.worker.recovery.positions import Floor, Positions
from transport.contract import DLQ_GROUP, Claim, Record, RetainingClaim, Topic, Transport

__all__ = ["DeadLetterIndexer"]

_log = structlog.get_logger(__name__)

_AT_ONCE = 100
_LOST = "Dead letters lost by PostgreSQL: listing them again from the log"
_MOVED = (
    "The group of the dead letters was moved past letters that no worker had listed: listing them "
    "from the log"
)


class DeadLetterIndexer:
    """Consumes the dead-letter log. Rows are unique per dead record, so no fence is needed."""

    def __init__(
        self,
        *,
        transport: Transport,
        pool: Pool,
        settings: PersistenceSettings,
        metrics: Metrics,
        member: str,
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._metrics = metrics
        self._positions = Positions(transport, metrics, Topic.DEAD_LETTERS, DLQ_GROUP)
        self._poll = settings.stream_poll_interval_ms / 1000
        self._log_barrier = log_barrier(transport, metrics, longest=self._poll)
        self._database_barrier = database_barrier(Writer(pool).probe, metrics, longest=self._poll)
        self._claims = Claims(
            transport,
            Topic.DEAD_LETTERS,
            group=DLQ_GROUP,
            member=member,
            log_barrier=self._log_barrier,
            metrics=metrics,
            serve=self._serve,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Index until ``stop`` is set; then finish the batch in hand."""
        await self._claims.run(stop)

    def paused(self) -> list[Paused]:
        """Return the dependency that the indexer waits for (empty: none)."""
        barriers = (self._log_barrier, self._database_barrier)
        waiting = [paused for barrier in barriers if (paused := barrier.paused())]
        return waiting + self._claims.paused()

    async def _serve(self, claim: Claim, stop: asyncio.Event) -> None:
        index = DeadLetterIndex(self._pool, self._transport.name, self._metrics)
        seen_in = -1
        if isinstance(claim, RetainingClaim):
            claim.retain(lambda: seen_in != self._database_barrier.outages)
        while not stop.is_set():
            outages = self._database_barrier.outages
            await self._catch_up(index, stop)
            seen_in = outages
            records = await self._log_barrier.run(
                lambda: unless_stopped(stop, self._next(claim)), stop
            )
            if records:
                await self._add(index, records, stop)
                await self._log_barrier.run(partial(claim.ack, records[-1].offset), stop)

    async def _add(
        self, index: DeadLetterIndex, records: Sequence[Record], stop: asyncio.Event
    ) -> None:
        """Index records after what PostgreSQL lost, if anything."""
        while True:
            try:
                await self._database_barrier.run(partial(index.add, records), stop)
            except FenceLost:
                await self._catch_up(index, stop)
            else:
                return

    async def _catch_up(self, index: DeadLetterIndex, stop: asyncio.Event) -> None:
        """List the letters before the group's position that PostgreSQL does not have.

        A failover to a standby that was behind, or a restore, loses rows of acknowledged letters.
        And somebody may have moved the group past letters that nobody had listed.
        """
        left = index.position.through
        while True:
            known = await self._database_barrier.run(index.position.read, stop)
            if known is not None and known == left:
                return
            floor = await self._log_barrier.run(partial(self._positions.floor, 0), stop)
            was_moved = floor.moved_to is not None
            if was_moved:
                floor = floor._replace(offset=floor.moved_to)
            if not self._positions.is_behind(known or "", floor):
                return
            try:
                await self._index_again(index, known, floor, stop, was_moved=was_moved)
            except FenceLost:
                left = None  # another failover, or another claim indexes too
            else:
                return

    async def _index_again(
        self,
        index: DeadLetterIndex,
        known: str | None,
        floor: Floor,
        stop: asyncio.Event,
        *,
        was_moved: bool,
    ) -> None:
        assert floor.offset is not None
        after = known or ""
        if known is None:
            _log.info(
                "No position of the dead letters in PostgreSQL, as after an upgrade: listing again "
                "those that the log holds",
                through=floor.offset,
            )
        else:
            await self._tell_gap(_MOVED if was_moved else _LOST, known, floor, stop)
        while page := await self._log_barrier.run(
            partial(self._positions.read, 0, after, floor, _AT_ONCE), stop
        ):
            await self._database_barrier.run(partial(index.add, page), stop)
            after = page[-1].offset
        await self._database_barrier.run(partial(index.position.move, floor.offset), stop)

    async def _tell_gap(self, why: str, after: str, floor: Floor, stop: asyncio.Event) -> None:
        holds_all = await self._log_barrier.run(partial(self._positions.reaches, 0, after), stop)
        if not holds_all:
            self._positions.lost()
        _log.warning(why, after=after, through=floor.offset, log_holds_all=holds_all)

    async def _next(self, claim: Claim) -> Sequence[Record]:
        return await claim.next(max_records=_AT_ONCE, max_wait=self._poll)
