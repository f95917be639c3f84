"""Copy the dead-letter log to the table ``dead_letters``, from the position in PostgreSQL on.

The log makes a dead letter durable before its source record is settled. The table lets operators
list, redrive and discard it. One process indexes a log's dead letters. The group
``dlq-processors`` shows its position to the log's own tools.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from otel.metrics import Metrics
from persistence.database.outage import Paused, database_barrier, log_barrier, unless_stopped
from persistence.database.pool import Pool
from persistence.dead_letters.index import DeadLetterIndex
from persistence.dead_letters.position import DEAD_LETTERS
from persistence.errors import FenceLost
from persistence.ownership.partition_owner import PartitionOwner
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from persistence.worker.log_bounds import LogBounds
from transport.contract import DLQ_GROUP, Record, Topic, Transport
from transport.errors import TransportError

__all__ = ["DeadLetterIndexer"]

_log = structlog.get_logger(__name__)

_AT_ONCE = 100
_PUBLISH_AGAIN_SECONDS = 60.0
"""Kafka forgets offsets that were not committed for a week; other programs may move the group."""
_TOPIC, _PARTITION = Topic.DEAD_LETTERS, 0


class DeadLetterIndexer:
    """Indexes the dead letters of one log, or leaves that to another process that does."""

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
        self._poll = settings.stream_poll_interval_ms / 1000
        self._log_barrier = log_barrier(transport, metrics, longest=self._poll)
        self._database_barrier = database_barrier(Writer(pool).probe, metrics, longest=self._poll)
        self._bounds = LogBounds(transport, _TOPIC, metrics)
        self._index = DeadLetterIndex(pool, transport.name, metrics)
        self._owner = PartitionOwner(
            pool,
            transport.name,
            [DEAD_LETTERS],
            member=member,
            database_barrier=self._database_barrier,
            metrics=metrics,
            serve=self._serve,
        )
        self._published: str | None = None
        self._published_at = 0.0
        self._publish_error = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Index until ``stop`` is set; then finish the batch in hand."""
        await self._owner.run(stop)

    def paused(self) -> list[Paused]:
        """Return the dependency that the indexer waits for (empty: none)."""
        barriers = (self._log_barrier, self._database_barrier)
        waiting = [paused for barrier in barriers if (paused := barrier.paused())]
        return waiting + self._owner.paused()

    async def _serve(self, _partition: int, _epoch: int, leave: asyncio.Event) -> None:
        self._published = None
        await self._open(leave)
        while not leave.is_set():
            records = await self._log_barrier.run(
                lambda: unless_stopped(leave, self._read()), leave
            )
            try:
                if records:
                    await self._database_barrier.run(partial(self._index.add, records), leave)
            except FenceLost as error:
                _log.warning("Indexing again from the position in PostgreSQL", error=str(error))
                records = None
            if not records:
                await self._open(leave)
            await self._publish()

    async def _read(self) -> Sequence[Record]:
        return await self._transport.read(
            _TOPIC,
            _PARTITION,
            after=self._index.position.through or None,
            limit=_AT_ONCE,
            wait=self._poll,
        )

    async def _open(self, leave: asyncio.Event) -> None:
        """Continue from the position in PostgreSQL, which may have gone back with the rows."""
        position = self._index.position
        log = await self._log_barrier.run(self._transport.identity, leave)
        left = position.through
        through = await self._database_barrier.run(partial(position.read, log), leave)
        if left is not None and through != left:
            _log.warning(
                "The position of the dead letters in PostgreSQL is not the one that was left: "
                "indexing again from there",
                position=through,
                left=left,
            )
        if through is None:
            return
        held = await self._log_barrier.run(
            partial(self._bounds.held_after, _PARTITION, through), leave
        )
        if held.offset != through:
            with suppress(FenceLost):  # the next call reads the position again
                await self._database_barrier.run(partial(position.move, held.offset), leave)

    async def _publish(self) -> None:
        """Show the position to the log's tools; nothing depends on it."""
        through, now = self._index.position.through, time.monotonic()
        is_shown = through == self._published and now - self._published_at < _PUBLISH_AGAIN_SECONDS
        if through is None or is_shown:
            return
        try:
            await self._transport.publish_positions(_TOPIC, {_PARTITION: through}, group=DLQ_GROUP)
        except TransportError as error:
            if str(error) != self._publish_error:
                self._publish_error = str(error)
                _log.warning("Position not shown by the log; will retry", error=str(error))
        else:
            self._published, self._published_at, self._publish_error = through, now, ""
