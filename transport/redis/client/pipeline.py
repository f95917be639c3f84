"""Pipelining across callers: what is asked in one turn of the loop goes out in one trip.

The partitions of a process are read and acknowledged by a task each, and those come in waves: an
append wakes several, a statement ends for several. A trip costs this process several times what
one command more in it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from transport.redis.client.connections import RedisConnections
from transport.redis.connection.connection import Command, Reply

__all__ = ["Pipeline"]


class _Asked:
    """Commands of one caller, and its replies once they are here."""

    __slots__ = ("commands", "replies")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()


class Pipeline:
    """Exchanges commands over ``connections``, those of several callers together.

    One trip is under way at a time: what is asked meanwhile makes the next one. ``most`` bounds the
    bytes of the replies of a trip (0: any number).
    """

    def __init__(self, connections: RedisConnections, *, most: int = 0) -> None:
        self.connections = connections
        self._most = most
        self._next: list[_Asked] = []
        self._trip: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send ``commands`` next to each other and return their replies.

        See ``RedisConnection.exchange``. A call that is cancelled leaves the trip to the others
        in it, so its commands may be executed.

        Raises:
            TransportUnavailable: no connection could be had, so nothing was sent.
        """
        asked = _Asked(commands)
        self._next.append(asked)
        if self._running is None:
            # It takes what there is when its turn comes, so what others ask until then goes along.
            self._running = asyncio.create_task(self._run())
        try:
            return await asked.replies
        except asyncio.CancelledError:
            if asked in self._trip and all(other.replies.cancelled() for other in self._trip):
                self._give_up()
            raise

    def _give_up(self) -> None:
        """End the trip under way, which nobody waits for, and make the next one if there is one."""
        if self._running is not None:
            self._running.cancel()
        self._running = asyncio.create_task(self._run()) if self._next else None

    async def _run(self) -> None:
        while trip := [asked for asked in self._next if not asked.replies.done()]:
            self._next, self._trip = [], trip
            await self._exchange(trip)
        self._next, self._trip, self._running = [], [], None

    async def _exchange(self, trip: Sequence[_Asked]) -> None:
        commands = [command for asked in trip for command in asked.commands]
        try:
            replies = await self.connections.exchange(commands, most=self._most)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            for asked in trip:
                if not asked.replies.done():
                    asked.replies.set_exception(error)
            return
        start = 0
        for asked in trip:
            end = start + len(asked.commands)
            if not asked.replies.done():
                asked.replies.set_result(replies[start:end])
            start = end
