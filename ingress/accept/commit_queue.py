"""The queue for one server of the log: messages that wait for a tick, and the ticks under way.

When a slot is free, the waiting messages become one *tick*, and the ``commit`` function commits
them together. The queue owns its ticks: if a request is cancelled or its client disconnects, the
tick goes on and no message is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from ingress.accept.submission import AnySubmission, Stored, Verdict, Waiter
from ingress.metrics import IngressMetrics
from ingress.schema.problems import INTERNAL, OVERLOADED, Problem
from ingress.schema.retry_after import BUSY
from ingress.settings import IngressSettings
from otel.metrics import Metrics

__all__ = ["Commit", "CommitQueue", "Decide", "TickPace"]

Decide = Callable[[AnySubmission, Verdict], None]
"""Sets a message's verdict. The last verdict of a request wakes the request."""
Commit = Callable[[list[AnySubmission], Decide], Awaitable[None]]
"""Commits a tick: makes its messages durable, and calls ``Decide`` for each with the outcome."""

_OUR_FAULT = 500
_PATIENCE = 0.005
"""Seconds that messages wait for more messages before a further concurrent tick begins."""
_log = structlog.get_logger(__name__)


class TickPace:
    """The rules for when a tick begins and how large it is. All queues of a process share them.

    Args:
        settings: Has the limits of the queue.
        worthwhile: The number of waiting messages, for each tick under way, that is enough for a
            further tick.
    """

    def __init__(self, settings: IngressSettings, worthwhile: int) -> None:
        # A tick of any size costs some 200 us, so a further tick waits for more messages.
        self.worthwhile = worthwhile
        """The number of waiting messages, for each tick under way, that begins a further tick."""
        self.patience = _PATIENCE
        """Seconds after which a tick begins with fewer messages."""
        self.max_wait = settings.ingress_max_wait_ms / 1000
        """The most seconds that a message waits for its tick."""
        self.slots = settings.ingress_appends_in_flight
        """The most ticks under way at once."""
        self.records = settings.ingress_append_records
        """The most messages of a tick."""


class CommitQueue:
    """The queue between requests and one server of the log. Belongs to one event loop.

    Args:
        commit: Commits one tick: look-up, append and verdicts.
        pace: Says when a tick begins.
        metrics: The process's metrics.
        emptied: Called when the last held message has its verdict.
    """

    def __init__(
        self, commit: Commit, *, pace: TickPace, metrics: Metrics, emptied: Callable[[], None]
    ) -> None:
        self._commit = commit
        self._pace = pace
        self._metrics = metrics.of(IngressMetrics)
        self._emptied = emptied
        self._waiting: deque[AnySubmission] = deque()
        self._leaders: dict[str, AnySubmission] = {}
        self._ticks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._later: asyncio.TimerHandle | None = None
        self.held = 0
        """The number of messages that were handed in and have no verdict yet."""
        self.held_bytes = 0
        """The bytes of those messages."""

    @property
    def waiting(self) -> int:
        """The number of messages that wait for their tick."""
        return len(self._waiting)

    @property
    def oldest_wait(self) -> float:
        """Seconds that the oldest message has waited for its tick; 0 if none waits."""
        return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

    def hand_in(self, submissions: Sequence[AnySubmission], waiter: Waiter) -> None:
        """Queue the messages of one request. They are committed in this order, in one tick.

        A message whose id is already held becomes a follower of the first, and gets its verdict.
        """
        since = time.monotonic()
        leaders = self._leaders
        for submission in submissions:
            submission.waiter = waiter
            submission.since = since
            self.held_bytes += submission.size
            leader = leaders.setdefault(submission.message_id, submission)
            if leader is submission:
                self._waiting.append(submission)
            else:
                submission.follows = True
                if leader.followers is None:
                    leader.followers = []
                leader.followers.append(submission)
        self.held += len(submissions)
        if not self._scheduled and len(self._ticks) < self._pace.slots:
            if self._is_enough():
                self._scheduled = True
                # Not at once, so that all requests of this turn of the event loop join the tick.
                asyncio.get_running_loop().call_soon(self._start)
            elif self._later is None:
                self._look_later()

    def refuse(self, submissions: Sequence[AnySubmission], waiter: Waiter) -> None:
        """Refuse the messages of one request (503), because too many wait already.

        Their verdicts come in a later turn of the event loop.
        """
        for submission in submissions:
            submission.waiter = waiter
            self.held_bytes += submission.size
        self.held += len(submissions)
        asyncio.get_running_loop().call_soon(self._refuse, submissions)

    async def close(self) -> None:
        """Wait until no tick is under way. Call this when nothing is held or handed in any more."""
        if self._later is not None:
            self._later.cancel()
        if self._ticks:
            await asyncio.wait(self._ticks)

    def _is_enough(self) -> bool:
        """Return whether enough messages wait for a further concurrent tick."""
        return len(self._waiting) >= self._pace.worthwhile * len(self._ticks)

    def _look_later(self) -> None:
        self._later = asyncio.get_running_loop().call_later(self._pace.patience, self._look)

    def _look(self) -> None:
        """Begin a tick if the oldest message has waited long enough; otherwise look later."""
        self._later = None
        if self._waiting and not self._scheduled and len(self._ticks) < self._pace.slots:
            if self.oldest_wait >= self._pace.patience:
                self._begin(self._next_tick())
            else:
                self._look_later()

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._ticks) < self._pace.slots and self._is_enough():
            self._begin(self._next_tick())
        if self._waiting and self._later is None:
            self._look_later()

    def _begin(self, tick: list[AnySubmission]) -> None:
        if tick:
            task = asyncio.get_running_loop().create_task(self._run(tick))
            self._ticks.add(task)
            task.add_done_callback(self._ended)

    def _next_tick(self) -> list[AnySubmission]:
        waiting, pace = self._waiting, self._pace
        self._expire()
        most = pace.records
        if len(self._ticks) + 1 < pace.slots:
            # Take half of the held messages: while one half is answered and its clients send again,
            # the other half is appended. With all in one tick, clients and log would take turns.
            most = min(most, max(2 * pace.worthwhile, (self.held + 1) // 2))
        if len(waiting) <= most:
            tick = list(waiting)
            waiting.clear()
            return tick
        tick = []
        # One request's messages stay in one tick: of two ticks, the second could overtake.
        while waiting and (len(tick) < most or waiting[0].waiter is tick[-1].waiter):
            tick.append(waiting.popleft())
        return tick

    def _expire(self) -> None:
        oldest = time.monotonic() - self._pace.max_wait
        while self._waiting and self._waiting[0].since < oldest:
            why = f"The append did not begin within {self._pace.max_wait:g} s."
            problem = Problem(OVERLOADED, why, headers=BUSY)
            self._decide(self._waiting.popleft(), problem)

    def _refuse(self, submissions: Sequence[AnySubmission]) -> None:
        self._metrics.shed.inc()
        why = f"{self.held} messages wait for the server of this conversation."
        problem = Problem(OVERLOADED, why, headers=BUSY)
        for submission in submissions:
            self._metrics.failed.labels(OVERLOADED.name).inc()
            self._deliver(submission, problem)
        if self.held == 0:
            self._emptied()

    async def _run(self, tick: list[AnySubmission]) -> None:
        started = time.perf_counter()
        try:
            await self._commit(tick, self._decide)
        finally:
            self._metrics.append.observe(time.perf_counter() - started)
            ended = time.monotonic()
            traced = next(((ended - s.since, s.trace.trace_id) for s in tick if s.trace), None)
            waited = [ended - submission.since for submission in tick]
            self._metrics.ack.observe_all(waited, traced=traced)
            for submission in tick:
                if submission.verdict is None:
                    # This happens only after an error in our own code, which `_ended` logs.
                    unknown = Problem(INTERNAL, "The message's outcome is not known.")
                    self._decide(submission, unknown)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ticks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "Group commit failed: unhandled exception; clients are answered 500", exc_info=error
            )
        if self._waiting and not self._scheduled:
            self._start()

    def _decide(self, submission: AnySubmission, verdict: Verdict) -> None:
        del self._leaders[submission.message_id]
        if not isinstance(verdict, Stored) and verdict.kind.status >= _OUR_FAULT:
            self._metrics.failed.labels(verdict.kind.name).inc()
        self._deliver(submission, verdict)
        if submission.followers:
            for follower in submission.followers:
                self._deliver(follower, verdict)
            submission.followers = None
        if self.held == 0:
            self._emptied()

    def _deliver(self, submission: AnySubmission, verdict: Verdict) -> None:
        submission.verdict = verdict
        self.held -= 1
        self.held_bytes -= submission.size
        submission.waiter.count_down()
