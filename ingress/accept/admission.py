"""Admission: once rows are late, accept no more messages than workers persist.

The log takes messages faster than PostgreSQL stores them. Without a limit, a lasting overload makes
each row later than the one before, by minutes. So the process looks at the log once a second while
messages come. When the oldest message that has no row is older than ``INGRESS_MAX_LAG_SECONDS``,
and more come than are persisted, each process accepts its share of what workers persist, and
answers the rest with 503.

An outage is another matter: while nothing is persisted at all, everything is accepted, since that
is what a log is for. So is what comes while workers catch up afterwards.
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
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.errors import TransportError

__all__ = ["Admission"]

_log = structlog.get_logger(__name__)

_EVERY = 1.0  # seconds between looks
_WINDOW = 3  # looks that a rate is of
_BURST = 0.1  # seconds of the rate that may come at once
_LEAST, _MOST = 0.8, 1.2  # of what workers persist: to catch up, and to let the lag grow again
_FORGETTING = 0.98  # of the best rate, from look to look
# Of what the other processes accept: so that one which had no requests yet can come to its share.
_ROOM = 0.02
_LONGEST_RETRY = 60


class _LogReading(msgspec.Struct, frozen=True):
    """One look at the log. Counts are of all partitions together."""

    at: float
    appended: int
    acknowledged: int
    taken: int
    """Messages that this process had let in."""
    age: float
    """Seconds, of the median partition: one hot conversation causes no refusal of others."""


class Admission:
    """Decides which messages come in while rows are late. One for each process.

    Args:
        transport: The log that workers read.
        most: Seconds that the oldest message without a row may be old; 0 lets everything in.
        refused: Is told of each request that is refused.
        clock: Returns seconds that never go back.
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
        self._looks: deque[_LogReading] = deque(maxlen=_WINDOW + 1)
        self._rate: float | None = None  # messages a second that may come in; None: any
        self._best = 0.0  # messages a second that were persisted
        self._share = 0.0  # the largest of what was appended, since it was overloaded
        self._tokens = 0.0
        self._filled = 0.0
        self._retry_after = 1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, in the running event loop."""
        if self._most:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End it."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, messages: int = 1) -> None:
        """Let messages in.

        Raises:
            Problem: rows are late, and this process has let in its share for now.
        """
        if self._rate is not None:
            self._refill(self._rate)
            if self._tokens <= 0:
                self._refused()
                raise Problem(
                    OVERLOADED,
                    f"Messages come faster than they are persisted: rows are "
                    f"{self._looks[-1].age:.0f} s late (INGRESS_MAX_LAG_SECONDS={self._most:g}).",
                    headers={"Retry-After": str(self._retry_after)},
                )
        self.count(messages)

    def count(self, messages: int) -> None:
        """Count messages that a request turned out to have besides."""
        self._taken += messages
        self._tokens -= messages

    async def look(self) -> None:
        """Look at the log, and decide how many messages may come in until the next look."""
        try:
            progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except TransportError:
            seen = None
        else:
            seen = self._seen(progress)
        if seen is None:  # the log itself refuses what it can't take
            self._looks.clear()
        else:
            self._looks.append(seen)
        self._decide()

    async def _run(self) -> None:
        taken = -1
        while True:
            await asyncio.sleep(_EVERY)
            if self._taken == taken and self._rate is None:
                self._looks.clear()  # nothing came: nothing is asked
                continue
            taken = self._taken
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the next look may succeed
                _log.exception("Admission: the log could not be looked at; will retry")

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
        if len(self._looks) <= _WINDOW:
            self._let_all_in()
            return
        first, last = self._looks[0], self._looks[-1]
        seconds = last.at - first.at
        appended = last.appended - first.appended
        persisted = last.acknowledged - first.acknowledged
        lag = last.appended - last.acknowledged
        self._best = max(persisted / seconds, self._best * _FORGETTING)
        if self._rate is None:
            if persisted >= appended or not self._steady():
                return
            # By the clocks of two machines, and by none: one of these may be wrong.
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
        # Refusing takes processor time, too: workers in this process get slower by it. So what they
        # persisted a while ago counts as well, or less and less would be accepted.
        can = max(persisted / seconds, self._best / 2)
        # Above 1 where some are not appended: repeats, and what a canary persists directly.
        share = (last.taken - first.taken) / appended if appended else 1.0
        share += max(0.0, 1.0 - share) * _ROOM
        # Others append as well, such as a redrive, and nobody refuses theirs. They may take half of
        # what this process had, and not, look after look, all of it.
        self._share = max(self._share, min(1.0, share))
        share = max(share, self._share / 2)
        aim = min(_MOST, max(_LEAST, 2 - last.age / self._most))
        self._rate = max(1.0, can * share * aim)
        wait = lag / can - self._most
        self._retry_after = min(_LONGEST_RETRY, max(1, math.ceil(wait)))

    def _steady(self) -> bool:
        """Return whether something was persisted between any two looks: there was no outage."""
        return all(
            earlier.acknowledged < later.acknowledged for earlier, later in pairwise(self._looks)
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
