"""A pipeline for several callers: commands of one turn of the event loop share a round trip.

Calls come in waves: each request and each partition has a task, and one event wakes several. A trip
costs this process several times as much as one more command in a trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from transport.redis.client.connections import RedisConnections
from transport.redis.connection.connection import Command, Reply

__all__ = ["Pipeline"]


class _PendingCommands:
    """The commands of one caller, and the future of their replies."""

    __slots__ = ("commands", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()


class Pipeline:
    """Exchanges the commands of several callers together, over ``connections``.

    One trip is under way at a time; commands that arrive meanwhile make up the next one.
    """

    def __init__(self, connections: RedisConnections) -> None:
        self.connections = connections
        self._next: list[_PendingCommands] = []
        self._trip: list[_PendingCommands] = []
        self._running: asyncio.Task[None] | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send ``commands`` next to each other and return their replies.

        See ``RedisConnection.exchange``. If a call is cancelled, its trip goes on for the other
        callers, so its commands may still be executed.

        Raises:
            TransportUnavailable: no connection could be opened, so nothing was sent.
        """
        pending = _PendingCommands(commands)
        self._next.append(pending)
        if self._running is None:
            # The task starts in the next turn of the loop, and takes all commands added by then.
            self._running = asyncio.create_task(self._run())
        try:
            return await pending.replies
        except asyncio.CancelledError:
            if pending in self._trip and all(other.replies.cancelled() for other in self._trip):
                self._give_up()
            raise

    def _give_up(self) -> None:
        """Cancel the trip under way, which no caller waits for, and begin the next one, if any."""
        if self._running is not None:
            self._running.cancel()
        self._running = asyncio.create_task(self._run()) if self._next else None

    async def _run(self) -> None:
        while trip := [pending for pending in self._next if not pending.replies.done()]:
            self._next, self._trip = [], trip
            await self._exchange(trip)
        self._next, self._trip, self._running = [], [], None

    async def _exchange(self, trip: Sequence[_PendingCommands]) -> None:
        commands = [command for pending in trip for command in pending.commands]
        try:
            replies = await self.connections.exchange(commands)
        except Exception as error:  # noqa: BLE001 - handed to the callers
            for pending in trip:
                if not pending.replies.done():
                    pending.replies.set_exception(error)
            return
        start = 0
        for pending in trip:
            end = start + len(pending.commands)
            if not pending.replies.done():
                pending.replies.set_result(replies[start:end])
            start = end
