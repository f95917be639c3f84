"""Show the workers' positions to the log's own tools, once a second.

What is published decides nothing: PostgreSQL has the positions. So an error is logged, and the same
positions are published again a second later.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from persistence.database.outage import stopped_within
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.errors import TransportError

__all__ = ["PositionPublisher"]

_log = structlog.get_logger(__name__)

_PUBLISH_SECONDS = 1.0
_ALL_SECONDS = 10.0
"""An idle partition is shown again, too: somebody may have moved the group, or the log may have to
remove records that retention kept until now."""


class PositionPublisher:
    """Publishes the positions of one process's partitions of a log, all in one call."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._positions: dict[int, str] = {}
        self._published: dict[int, str] = {}
        self._published_all = float("-inf")
        self._error = ""

    def settled(self, partition: int, through: str) -> None:
        """Keep the position of a partition, to publish it soon."""
        self._positions[partition] = through

    def left(self, partition: int) -> str | None:
        """Return the position that this process kept last; ``None`` if it never had one."""
        return self._positions.get(partition)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish once a second until ``stop`` is set, and then once more."""
        while not await stopped_within(stop, _PUBLISH_SECONDS):
            await self._publish()
        await self._publish()

    async def _publish(self) -> None:
        now = time.monotonic()
        if now - self._published_all >= _ALL_SECONDS:
            self._published_all = now
            self._published.clear()
        changed = {
            partition: through
            for partition, through in self._positions.items()
            if through and self._published.get(partition) != through
        }
        if not changed:
            return
        try:
            await self._transport.publish_positions(Topic.MESSAGES, changed, group=WORKER_GROUP)
        except Exception as error:  # noqa: BLE001 - nothing depends on it: no reason to end the work
            if str(error) != self._error:
                self._error = str(error)
                _log.warning(
                    "The log does not show the workers' positions; will retry. Messages are "
                    "persisted meanwhile",
                    transport=self._transport.name,
                    error=str(error),
                    exc_info=not isinstance(error, TransportError),
                )
        else:
            self._published |= changed
            self._error = ""
