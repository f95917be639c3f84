"""The queue of one server of the log: messages that wait for a tick, and the ticks under way.

Whatever is waiting when a slot is free becomes one *tick*, committed by the function given at
construction. The queue owns its ticks: a request that is cancelled, or whose client is gone,
neither cancels the tick nor loses anyone's message.
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
from ingress.settings import IngressSettings
from otel.metrics import Metrics

__all__ = ["RETRY_AFTER", "Commit", "CommitQueue", "Decide", "TickPace"]

Decide = Callable[[AnySubmission, Verdict], None]
"""Gives a message its verdict, and wakes its request with the last one."""
Commit = Callable[[list[AnySubmission], Decide], Awaitable[None]]
"""Makes every message of a tick durable, or tells why not, through ``Decide``."""

RETRY_AFTER = {"Retry-After": "1"}
_OUR_FAULT = 500
_PATIENCE = 0.005
"""Seconds that messages wait for others, before a tick of their own beside those under way."""
_log = structlog.get_logger(__name__)


class TickPace:
    """When a tick begins, and how large it is; the same for all queues of a process.

    Args:
        settings: the limits of the queue.
        worthwhile: messages that make another tick worth beginning beside one under way.
    """

    def __init__(self, settings: IngressSettings, worthwhile: int) -> None:
        # A tick costs some 200 us whatever it holds, so a tick beside others waits for company.
        self.worthwhile = worthwhile
        """Messages that have to wait per tick under way, for another tick to be worth it."""
        self.patience = _PATIENCE
        """Seconds after which a tick begins with fewer messages."""
        self.max_wait = settings.ingress_max_wait_ms / 1000
        """Seconds that a message waits for its tick at most."""
        self.slots = settings.ingress_appends_in_flight
        """Ticks under way at once."""
        self.records = settings.ingress_append_records
        """Messages of a tick."""


class CommitQueue:
    """The queue between requests and one server of the log. Belongs to one event loop.

    Args:
        commit: does one tick: the look-up, the append and its answers.
        pace: when a tick begins.
        metrics: the process's metrics.
        emptied: called when nothing is held any more.
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
        self._shown = 0  # of those that wait, in the metric
        self._scheduled = False
        self._later: asyncio.TimerHandle | None = None
        self.held = 0
        """Messages handed in and not yet answered."""
        self.held_bytes = 0
        """Their bytes."""

    @property
    def oldest_wait(self) -> float:
        """Seconds that the oldest message has waited for its tick; 0 where none waits."""
        return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

    def hand_in(self, submissions: Sequence[AnySubmission], waiter: Waiter) -> None:
        """Take messages of one request, to be committed in the order given, in one tick."""
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
                # Not at once: every request that this turn of the loop has ready joins the tick.
                asyncio.get_running_loop().call_soon(self._start)
            elif self._later is None:
                self._look_later()

    def refuse(self, submissions: Sequence[AnySubmission], waiter: Waiter) -> None:
        """Refuse messages of one request, soon: so much waits that they would be late."""
        for submission in submissions:
            submission.waiter = waiter
            self.held_bytes += submission.size
        self.held += len(submissions)
        asyncio.get_running_loop().call_soon(self._refuse, submissions)

    async def close(self) -> None:
        """Return when no tick is under way; nothing may be handed in any more, or be held."""
        if self._later is not None:
            self._later.cancel()
        if self._ticks:
            await asyncio.wait(self._ticks)

    def _is_enough(self) -> bool:
        """Whether enough is queued for another concurrent commit."""
        return len(self._waiting) >= self._pace.worthwhile * len(self._ticks)

    def _look_later(self) -> None:
        self._later = asyncio.get_running_loop().call_later(self._pace.patience, self._look)

    def _look(self) -> None:
        """Begin a tick for what has waited long enough for company."""
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
        self._metrics.queue.inc(len(self._waiting) - self._shown)
        self._shown = len(self._waiting)

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
            # Of many, half: while one half is answered, and its clients send again, the other is
            # appended. All in one tick, each side would wait for the other.
            most = min(most, max(2 * pace.worthwhile, (self.held + 1) // 2))
        if len(waiting) <= most:
            tick = list(waiting)
            waiting.clear()
            return tick
        tick = []
        # One request's messages stay together: in two ticks, the second could overtake.
        while waiting and (len(tick) < most or waiting[0].waiter is tick[-1].waiter):
            tick.append(waiting.popleft())
        return tick

    def _expire(self) -> None:
        oldest = time.monotonic() - self._pace.max_wait
        while self._waiting and self._waiting[0].since < oldest:
            why = f"The append did not begin within {self._pace.max_wait:g} s."
            problem = Problem(OVERLOADED, why, headers=RETRY_AFTER)
            self._decide(self._waiting.popleft(), problem)

    def _refuse(self, submissions: Sequence[AnySubmission]) -> None:
        self._metrics.shed.inc()
        why = f"{self.held} messages wait for the server of this conversation."
        problem = Problem(OVERLOADED, why, headers=RETRY_AFTER)
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
                    # Only after an error in our own code, which `_ended` logs.
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
