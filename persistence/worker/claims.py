"""Run one task for each claim of this process, until it is asked to stop.

The end of one claim does not disturb another, and a stop lets each finish its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from otel.metrics import Metrics
from persistence.database.outage import (
    OutageBarrier,
    Paused,
    Stopping,
    stopped_within,
    unless_stopped,
)
from persistence.errors import FenceLost
from persistence.metrics import PersistenceMetrics
from persistence.worker.fence_losses import FenceLosses
from transport.clock import timestamp
from transport.contract import Claim, Consumer, Topic, Transport, WithdrawingConsumer
from transport.errors import PartitionLost, TransportError

__all__ = ["Claims"]

_log = structlog.get_logger(__name__)

# Without a pause, the log would give the claim whose fence was lost to this process again at once.
_STALE_SECONDS = 1.0

Serve = Callable[[Claim, asyncio.Event], Awaitable[None]]


class Claims:
    """The claims of one member of one group. ``serve`` works on a claim until ``stop`` is set."""

    def __init__(
        self,
        transport: Transport,
        *,
        group: str,
        member: str,
        log_barrier: OutageBarrier,
        metrics: Metrics,
        serve: Serve,
        linger: float = 0.0,
    ) -> None:
        self._transport = transport
        self._group = group
        self._member = member
        self._log_barrier = log_barrier
        self._metrics = metrics
        self._serve = serve
        self._linger = linger
        self.arrived = asyncio.Event()
        """Set when the first claim has arrived."""
        self._owned: dict[int, Claim] = {}
        self._unexpected: dict[str, OutageBarrier] = {}
        self._fence_losses = FenceLosses()
        metrics.of(PersistenceMetrics).paused.labels(f"fence of {transport.name}").set_function(
            lambda: len(self._fence_losses.paused())
        )

    def owned(self) -> dict[int, int]:
        """Return the epoch of each partition owned now."""
        return {partition: claim.epoch for partition, claim in self._owned.items()}

    def paused(self) -> list[Paused]:
        """Return the partitions that wait: after an error, for a fence, or blocked in the log."""
        unexpected = [
            paused for barrier in self._unexpected.values() if (paused := barrier.paused())
        ]
        blocked = [
            Paused(f"partition {number} of {self._transport.name}", timestamp(of.since), of.reason)
            for number, claim in sorted(self._owned.items())
            if (of := claim.blocked)
        ]
        return unexpected + self._fence_losses.paused() + blocked

    async def run(self, stop: asyncio.Event) -> None:
        """Serve claims until ``stop`` is set, then let each finish what it has in hand."""
        while not stop.is_set():
            try:
                consumer = self._transport.consume(
                    Topic.MESSAGES, group=self._group, member=self._member, linger=self._linger
                )
                async with consumer:
                    await self._run(consumer, stop)
            except TransportError as error:
                await self._hold(self._log_barrier, error, stop)
            except Exception as error:  # noqa: BLE001 - logged, shown as paused, tried again
                await self._pause_on("group", error, stop)

    async def _run(self, consumer: Consumer, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            await unless_stopped(stop, self._assign(consumer, tasks, stop))
            if isinstance(consumer, WithdrawingConsumer):
                await consumer.withdraw()
        # Leaving the task group waited for every claim's task. Leaving the consumer returns the
        # claims.

    async def _assign(
        self, consumer: Consumer, tasks: asyncio.TaskGroup, stop: asyncio.Event
    ) -> None:
        while not stop.is_set():
            try:
                async for claim in consumer.claims():
                    tasks.create_task(self._own(claim, stop))
            except TransportError as error:
                await self._hold(self._log_barrier, error, stop)
            except Exception as error:  # noqa: BLE001 - existing claims go on
                await self._pause_on("claims", error, stop)
            else:
                return

    async def _hold(self, barrier: OutageBarrier, error: Exception, stop: asyncio.Event) -> None:
        try:
            await barrier.hold(error, stop)
        except Stopping:
            return

    async def _own(self, claim: Claim, stop: asyncio.Event) -> None:
        log = _log.bind(partition=claim.partition)
        owned = self._metrics.of(PersistenceMetrics).owned.labels(
            self._transport.name, str(claim.partition)
        )
        self._owned[claim.partition] = claim
        self.arrived.set()
        owned.set(1)
        try:
            async with claim:
                await self._serve_claim(claim, stop)
        except PartitionLost:
            log.info(
                "Partition lost: its next owner resumes after the last acknowledged record",
                epoch=claim.epoch,
            )
        except TransportError as error:
            log.warning(
                "Partition not handed back: its next owner may read some records again",
                error=str(error),
            )
        except Exception as error:  # noqa: BLE001 - one claim's end must not end the others
            await self._pause_on(f"partition {claim.partition}", error, stop)
        finally:
            # A newer claim of the same partition may have come before this one ended.
            if self._owned.get(claim.partition) is claim:
                del self._owned[claim.partition]
                owned.set(0)

    async def _serve_claim(self, claim: Claim, stop: asyncio.Event) -> None:
        """Serve a claim; after an unexpected error, pause it alone and begin again."""
        while not stop.is_set():
            try:
                await self._serve(claim, stop)
            except Stopping:
                return
            except FenceLost as error:
                newer = "a newer owner persists this partition; leaving it"
                _log.warning(
                    f"Fence lost: {newer if error.held else 'leaving the partition'}",
                    partition=claim.partition,
                    error=str(error),
                )
                self._fence_losses.note(claim.partition, error)
                await stopped_within(stop, _STALE_SECONDS)
                return
            except PartitionLost:
                raise
            except Exception as error:  # noqa: BLE001 - never dropped: logged, and tried again
                await self._pause_on(f"partition {claim.partition}", error, stop)
                await claim.nack()
            else:
                return

    async def _pause_on(self, where: str, error: Exception, stop: asyncio.Event) -> None:
        _log.exception("Unhandled exception; will retry", where=where)
        if where not in self._unexpected:
            self._unexpected[where] = OutageBarrier(
                f"messages {where}", _works, self._metrics, label="unexpected"
            )
        await self._hold(self._unexpected[where], error, stop)


async def _works() -> None:
    """Probe nothing: the cause is unknown, so only another try can show that it is gone."""
