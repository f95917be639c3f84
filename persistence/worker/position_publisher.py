"""Show the workers' positions to the log's own tools, once a second.

What is published decides nothing: PostgreSQL has the positions. So an error is logged, and what was
not published is published later. But a log may remove what a position has passed. So a position is
published only after PostgreSQL was found to have it, and not during an outage, after which it may
be an earlier one.
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
_AGAIN_SECONDS = 8.0
"""An idle partition is shown again, too: somebody may have moved the group, or the log may have to
remove records that retention kept until now. PostgreSQL is asked each five seconds, so that is some
ten seconds later."""


class PositionPublisher:
    """Publishes the positions of one process's partitions of a log, all in one call."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._positions: dict[int, str] = {}
        self._due: set[int] = set()
        self._published: dict[int, tuple[str, float]] = {}
        self._error = ""

    def settled(self, partition: int, through: str) -> None:
        """Publish a position soon: PostgreSQL has it now."""
        self._positions[partition] = through
        self._due.add(partition)

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
        due = {partition: self._positions[partition] for partition in self._due}
        self._due.clear()
        due = {p: at for p, at in due.items() if at and not self._is_shown(p, at, now)}
        if not due:
            return
        try:
            await self._transport.publish_positions(Topic.MESSAGES, due, group=WORKER_GROUP)
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
            self._published |= {partition: (at, now) for partition, at in due.items()}
            self._error = ""

    def _is_shown(self, partition: int, through: str, now: float) -> bool:
        shown, at = self._published.get(partition, ("", 0.0))
        return shown == through and now - at < _AGAIN_SECONDS
