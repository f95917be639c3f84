"""From the dead-letter log to the table ``dead_letters``, with the group ``dlq-processors``.

The log is where a dead letter is durable before its source is acknowledged; the table is what can
be listed, redriven and discarded. Any process may index; the letters are one partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from otel.metrics import Metrics
from persistence.database.outage import Paused, database_barrier, log_barrier, unless
from persistence.database.pool import Pool
from persistence.dead_letters.index import DeadLetterIndex
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from persistence.worker.claims import Claims
from transport.contract import DLQ_GROUP, Claim, Record, Topic, Transport

__all__ = ["DeadLetterIndexer"]

_AT_ONCE = 100


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
        self._index = DeadLetterIndex(pool, transport.name, metrics)
        self._poll = settings.stream_poll_interval_ms / 1000
        self._log = log_barrier(transport, metrics, longest=self._poll)
        self._database = database_barrier(Writer(pool).probe, metrics, longest=self._poll)
        self._claims = Claims(
            transport,
            Topic.DEAD_LETTERS,
            group=DLQ_GROUP,
            member=member,
            log=self._log,
            metrics=metrics,
            serve=self._serve,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Index until ``stop`` is set; then finish the batch in hand."""
        await self._claims.run(stop)

    def paused(self) -> list[Paused]:
        """Return the dependency that it waits for (empty: none)."""
        waiting = [paused for gate in (self._log, self._database) if (paused := gate.paused())]
        return waiting + self._claims.paused()

    async def _serve(self, claim: Claim, stop: asyncio.Event) -> None:
        while not stop.is_set():
            records = await self._log.through(lambda: unless(stop, self._next(claim)), stop)
            if records:
                await self._database.through(partial(self._index.add, records), stop)
                await self._log.through(partial(claim.ack, records[-1].offset), stop)

    async def _next(self, claim: Claim) -> Sequence[Record]:
        return await claim.next(max_records=_AT_ONCE, max_wait=self._poll)
