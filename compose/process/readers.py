"""The readers of the logs in a process, and the order in which they begin and end.

While a step changes which log is read, what the worker gives up is read by nobody until another
process reads the other log's partitions, of which this one's standbys have some. So a standby takes
its share only when the worker has its own, and gives it up before.
"""

from __future__ import annotations

import asyncio

from compose.process.tasks import Task, Tasks
from compose.process.wiring import Consumers
from persistence.database.outage import unless
from persistence.standby.standby import Standby

__all__ = ["Readers"]

_PARTITIONS_SECONDS = 3.0
_HAND_OVER_SECONDS = 0.75


class Readers:
    """The readers of a process, as tasks.

    Args:
        consumers: The readers.
        tasks: Gets their tasks.
        partitions_within: For how many seconds a standby waits for the worker to have partitions:
            it may get none.
        hand_over: Within how many seconds others have a standby's partitions. A member of a group
            of Kafka hears of it in a quarter of a second, and takes as long to claim them.
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
        """Start them."""
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
        """End the standbys, and then, after half of the time at most, the others.

        In between, where workers of other processes read a standby's log, these get its partitions.
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
        await unless(stop, self._consumers.worker.has_partitions(self._partitions_within))
        await standby.run(stop)
