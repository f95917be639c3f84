"""The readers of a process's logs, and the order in which they start and stop.

While a migration step changes the consumed log, workers of some processes still read the old log
and others already read the new one, whose remaining partitions this process's standbys own. So a
standby takes partitions only after the worker has its own, and gives them up before the worker
does: otherwise messages would wait until another process's worker gets the standby's partitions.
"""

from __future__ import annotations

import asyncio

from compose.process.tasks import Task, Tasks
from compose.process.wiring import Consumers
from persistence.database.outage import unless_stopped
from persistence.standby.standby import Standby

__all__ = ["Readers"]

_PARTITIONS_SECONDS = 3.0
_HAND_OVER_SECONDS = 1.25


class Readers:
    """The readers of a process, as tasks.

    Args:
        consumers: The readers.
        tasks: Runs their tasks.
        partitions_within: Longest time, in seconds, that a standby waits for the worker to own
            partitions: the worker may get none.
        hand_over: Seconds in which other processes take a standby's partitions. Each compares its
            partitions with its share once a second.
    """

    def __init__(
        self,
        consumers: Consumers,
        tasks: Tasks,
        *,
        partitions_within: float = _PARTITIONS_SECONDS,
        hand_over: float = _HAND_OVER_SECONDS,
    ) -> None:
        self._consumers = consumers
        self._tasks = tasks
        self._partitions_within = partitions_within
        self._hand_over = hand_over
        self._standbys_stop = asyncio.Event()
        self._stop = asyncio.Event()
        self._standbys: list[Task] = []
        self._others: list[Task] = []

    def start(self) -> None:
        """Start all readers."""
        tasks, consumers, stop = self._tasks, self._consumers, self._stop
        self._others = [
            *(tasks.add("dead letters", indexer.run(stop)) for indexer in consumers.indexers),
            tasks.add("worker", consumers.worker.run(stop)),
            tasks.add("orphaned logs", consumers.drainer.run(stop)),
        ]
        self._standbys = [
            tasks.add(f"standby {standby.transport.name}", self._stand_by(standby))
            for standby in consumers.standbys
        ]

    async def end(self, *, within: float) -> None:
        """End the standbys, and then, after half of ``within`` at most, the other readers.

        If workers of other processes read a standby's log, the pause in between lets them take
        its partitions.

        Args:
            within: Seconds for all of it.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        standbys = self._consumers.standbys
        are_read = any(await asyncio.gather(*(standby.others_read() for standby in standbys)))
        self._standbys_stop.set()
        await self._tasks.end(self._standbys, within=within / 4)
        if are_read:
            await asyncio.sleep(min(self._hand_over, within / 4))
        self._stop.set()
        await self._tasks.end(self._others, within=until - loop.time())

    async def _stand_by(self, standby: Standby) -> None:
        stop = self._standbys_stop
        await unless_stopped(stop, self._consumers.worker.has_partitions(self._partitions_within))
        await standby.run(stop)
