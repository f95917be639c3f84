"""Admission control: once rows are late, accept no more messages than workers persist.

The log takes messages faster than PostgreSQL stores them. Without a limit, a lasting overload makes
each row later than the one before, by minutes. So the process reads the log's progress once a
second while messages come. If the oldest message without a row is older than
``INGRESS_MAX_LAG_SECONDS``, and messages come faster than they are persisted, each process accepts
its share of the rate at which workers persist, and answers the other requests with 503.

During an outage of PostgreSQL, and while workers catch up afterwards, all messages are accepted:
this is the purpose of a log.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import structlog

from ingress.schema.problems import OVERLOADED, Problem
from otel.rounds import completed
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.errors import TransportError

__all__ = ["Admission"]

_log = structlog.get_logger(__name__)

_EVERY = 1.0  # seconds between readings
_WINDOW = 3  # intervals between readings from which rates are computed
_BURST = 0.1  # seconds of the rate that may come at once
# The accepted rate as a factor of the persisted rate: below 1 to catch up, above 1 to let the lag
# grow again.
_LEAST, _MOST = 0.8, 1.2
_FORGETTING = 0.98  # the best rate's decay factor from reading to reading
# A part of the other processes' share, so that a process without requests so far can get a share.
_ROOM = 0.02
_LONGEST_RETRY = 60


class _LogReading(msgspec.Struct, frozen=True):
    """One reading of the log's progress. Counts are totals over all partitions."""

    at: float
    appended: int
    acknowledged: int
    taken: int
    """Messages that this process has accepted."""
    age: float
    """Seconds: the age of the oldest message without a row in the median partition. So one hot
    conversation does not cause others to be refused."""


class Admission:
    """Decides which messages are accepted while rows are late. One for each process.

    Args:
        transport: The log that workers read.
        most: The largest age of the oldest message without a row, in seconds; 0 is no limit.
        refused: Called for each refused request.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        transport: Transport,
        most: float,
        *,
        refused: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._most = most
        self._refused = refused
        self._clock = clock
        self._taken = 0
        self._readings: deque[_LogReading] = deque(maxlen=_WINDOW + 1)
        self._rate: float | None = None  # accepted messages a second; None: no limit
        self._best = 0.0  # the best rate of persisted messages a second, decaying
        self._share = 0.0  # this process's largest share of all appends since the overload began
        self._tokens = 0.0
        self._filled = 0.0
        self._retry_after = 1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read the log's progress, in the running event loop."""
        if self._most:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop reading."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, messages: int = 1) -> None:
        """Accept messages.

        Raises:
            Problem: Rows are late, and this process has accepted its share for now (503).
        """
        if self._rate is not None:
            self._refill(self._rate)
            if self._tokens <= 0:
                self._refused()
                raise Problem(
                    OVERLOADED,
                    "Messages come faster than they are persisted: rows are "
                    f"{self._readings[-1].age:.0f} s late "
                    f"(INGRESS_MAX_LAG_SECONDS={self._most:g}).",
                    headers={"Retry-After": str(self._retry_after)},
                )
        self.count(messages)

    def count(self, messages: int) -> None:
        """Count further messages of a request that ``take`` has accepted already."""
        self._taken += messages
        self._tokens -= messages

    async def look(self) -> None:
        """Read the log's progress, and set the accepted rate until the next reading."""
        try:
            progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except TransportError:
            seen = None
        else:
            seen = self._seen(progress)
        if seen is None:  # no limit: the log itself refuses messages that it can't take
            self._readings.clear()
        else:
            self._readings.append(seen)
        self._decide()

    async def _run(self) -> None:
        taken = -1
        while True:
            await asyncio.sleep(_EVERY)
            if self._taken == taken and self._rate is None:
                self._readings.clear()  # no messages came, so there is nothing to decide
                continue
            taken = self._taken
            await completed(
                self.look(), _log, "Admission: the log's progress could not be read; will retry"
            )

    def _seen(self, progress: Sequence[Progress]) -> _LogReading | None:
        appended = acknowledged = 0
        ages = []
        for partition in progress:
            if partition.appended is None or partition.lag is None or partition.oldest_age is None:
                return None
            appended += partition.appended
            acknowledged += partition.appended - partition.lag
            ages.append(partition.oldest_age)
        age = statistics.median(ages)
        return _LogReading(self._clock(), appended, acknowledged, self._taken, age)

    def _decide(self) -> None:
        if len(self._readings) <= _WINDOW:
            self._let_all_in()
            return
        first, last = self._readings[0], self._readings[-1]
        seconds = last.at - first.at
        appended = last.appended - first.appended
        persisted = last.acknowledged - first.acknowledged
        lag = last.appended - last.acknowledged
        self._best = max(persisted / seconds, self._best * _FORGETTING)
        if self._rate is None:
            if persisted >= appended or not self._steady():
                return
            # The age depends on the clocks of two machines; the estimate from the lag on none. Both
            # have to be over the limit, because either may be wrong.
            if min(last.age, lag * seconds / persisted) <= self._most:
                return
            _log.warning(
                "Overloaded: messages come faster than they are persisted; refusing some",
                late_seconds=round(last.age, 1),
                persisted_per_second=round(persisted / seconds),
            )
        elif persisted <= 0 or min(last.age, lag * seconds / persisted) <= self._most / 2:
            self._let_all_in()
            return
        # Refusals take processor time and slow down this process's workers. So the best recent rate
        # counts too; otherwise the accepted rate would fall further and further.
        can = max(persisted / seconds, self._best / 2)
        # Above 1 if some messages are not appended: repeats, and those that are persisted directly.
        share = (last.taken - first.taken) / appended if appended else 1.0
        share += max(0.0, 1.0 - share) * _ROOM
        # Other writers append as well, such as a redrive, and nobody refuses theirs. They may take
        # half of this process's share, but must not take all of it over several readings.
        self._share = max(self._share, min(1.0, share))
        share = max(share, self._share / 2)
        aim = min(_MOST, max(_LEAST, 2 - last.age / self._most))
        self._rate = max(1.0, can * share * aim)
        wait = lag / can - self._most
        self._retry_after = min(_LONGEST_RETRY, max(1, math.ceil(wait)))

    def _steady(self) -> bool:
        """Return whether messages were persisted between all readings, so without an outage."""
        return all(
            earlier.acknowledged < later.acknowledged for earlier, later in pairwise(self._readings)
        )

    def _let_all_in(self) -> None:
        if self._rate is not None:
            _log.info("No longer overloaded: everything is accepted")
        self._rate = None
        self._share = 0.0

    def _refill(self, rate: float) -> None:
        now = self._clock()
        more = (now - self._filled) * rate
        self._tokens = min(rate * _BURST, max(self._tokens, -rate * _LONGEST_RETRY) + more)
        self._filled = now
