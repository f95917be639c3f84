"""The readers of a process's logs, and how they start and stop."""

from __future__ import annotations

import asyncio

from compose.process.tasks import Task, Tasks
from compose.process.wiring import Consumers

__all__ = ["Readers"]


class Readers:
    """The readers of a process, as tasks.

    Args:
        consumers: The readers.
        tasks: Runs their tasks.
    """

    def __init__(self, consumers: Consumers, tasks: Tasks) -> None:
        self._consumers = consumers
        self._tasks = tasks
        self._stop = asyncio.Event()
        self._running: list[Task] = []

    def start(self) -> None:
        """Start all readers."""
        tasks, consumers, stop = self._tasks, self._consumers, self._stop
        self._running = [
            *(tasks.add("dead letters", indexer.run(stop)) for indexer in consumers.indexers),
            tasks.add("worker", consumers.worker.run(stop)),
            tasks.add("orphaned logs", consumers.drainer.run(stop)),
            *(
                tasks.add(f"follower {follower.transport.name}", follower.run(stop))
                for follower in consumers.followers
            ),
        ]

    async def end(self, *, within: float) -> None:
        """End all readers.

        Args:
            within: Seconds for all of it.
        """
        self._stop.set()
        await self._tasks.end(self._running, within=within)
