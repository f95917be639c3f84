"""Group commit: concurrent requests share one append, and one fsync, instead of one each.

Requests hand in their messages (``GroupCommit.submit``) and wait on one future. Whatever is
waiting when a slot is free becomes one *tick*, committed by the function given at construction.
The group commit owns the ticks: a request that is cancelled, or whose client is gone, neither
cancels the tick nor loses anyone's message.

A message whose id is already on its way joins the first one and shares its verdict.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from ingress.accept.submission import AnySubmission, Stored, Verdict, Waiter
from ingress.metrics import IngressMetrics
from ingress.schema.problems import INTERNAL, LOG_UNAVAILABLE, OUTCOME_UNKNOWN, OVERLOADED, Problem
from ingress.settings import IngressSettings
from otel.metrics import Metrics

__all__ = ["Commit", "Decide", "GroupCommit"]

Decide = Callable[[AnySubmission, Verdict], None]
"""Gives a message its verdict, and wakes its request with the last one."""
Commit = Callable[[list[AnySubmission], Decide], Awaitable[None]]
"""Makes every message of a tick durable, or tells why not, through ``Decide``."""

_RETRY_AFTER = {"Retry-After": "1"}
_OUR_FAULT = 500
_PATIENCE = 0.005
"""Seconds that messages wait for others, before a tick of their own beside those under way."""
_log = structlog.get_logger(__name__)


class GroupCommit:
    """The queue between requests and the log. Belongs to one event loop.

    Args:
        commit: does one tick: the look-up, the append and its answers.
        settings: the limits of the queue.
        metrics: the process's metrics.
        worthwhile: messages that make another tick worth beginning beside one under way.
    """

    def __init__(
        self, commit: Commit, *, settings: IngressSettings, metrics: Metrics, worthwhile: int
    ) -> None:
        self._commit = commit
        # A tick costs some 200 us whatever it holds, so a tick beside others waits for company.
        self.worthwhile = worthwhile
        """Messages that have to wait per tick under way, for another tick to be worth it."""
        self.patience = _PATIENCE
        """Seconds after which a tick begins with fewer messages."""
        self._metrics = metrics.of(IngressMetrics)
        for problem in (OVERLOADED, LOG_UNAVAILABLE, OUTCOME_UNKNOWN):
            self._metrics.failed.labels(problem.name)  # at zero, so that rate() sees the first
        self._limit = settings.ingress_queue_limit
        self._limit_bytes = settings.ingress_queue_bytes
        self._max_wait = settings.ingress_max_wait_ms / 1000
        self._slots = settings.ingress_appends_in_flight
        self._records = settings.ingress_append_records
        self._waiting: deque[AnySubmission] = deque()
        self._leaders: dict[str, AnySubmission] = {}
        self._ticks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._held_bytes = 0
        self._scheduled = False
        self._later: asyncio.TimerHandle | None = None
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def oldest_wait(self) -> float:
        """Seconds that the oldest message has waited for its tick; 0 where none waits."""
        return time.monotonic() - self._waiting[0].since if self._waiting else 0.0

    @property
    def held(self) -> int:
        """Messages handed in and not yet answered."""
        return self._held

    def admit(self) -> None:
        """Refuse a request if too much waits. Called before its body is read.

        Raises:
            Problem: too many messages or bytes are held, or the oldest has waited too long.
        """
        if self._held < self._limit and self._held_bytes < self._limit_bytes:
            if self.oldest_wait <= self._max_wait:
                if self._closing:
                    raise _shutting_down()
                return
            why = f"The oldest message has waited more than {self._max_wait:g} s for its append."
        else:
            why = f"{self._held} messages ({self._held_bytes} bytes) wait for the log."
        self._metrics.shed.inc()
        raise Problem(OVERLOADED, why, headers=_RETRY_AFTER)

    def submit(self, submissions: Sequence[AnySubmission]) -> asyncio.Future[None]:
        """Hand in one request's messages; the future is done when each has its verdict.

        They are committed in the order given, in one tick.

        Raises:
            Problem: the service is shutting down; nothing was handed in.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hand_in(submissions, partial(_wake, future))
        return future

    def hand_in(self, submissions: Sequence[AnySubmission], decided: Callable[[], None]) -> None:
        """As ``submit``, without a future: ``decided`` is called when each has its verdict.

        It is called in the middle of the tick, so it must be quick and must not raise.

        Raises:
            Problem: the service is shutting down; nothing was handed in.
        """
        if self._closing:
            raise _shutting_down()
        waiter = Waiter(decided, len(submissions))
        since = time.monotonic()
        leaders = self._leaders
        for submission in submissions:
            submission.waiter = waiter
            submission.since = since
            self._held_bytes += submission.size
            leader = leaders.setdefault(submission.message_id, submission)
            if leader is submission:
                self._waiting.append(submission)
            else:
                submission.follows = True
                if leader.followers is None:
                    leader.followers = []
                leader.followers.append(submission)
        self._held += len(submissions)
        self._idle.clear()
        if not self._scheduled and len(self._ticks) < self._slots:
            if self._is_enough():
                self._scheduled = True
                # Not at once: every request that this turn of the loop has ready joins the tick.
                asyncio.get_running_loop().call_soon(self._start)
            elif self._later is None:
                self._look_later()

    async def close(self) -> None:
        """Take nothing more, and return when everything handed in has its verdict."""
        self._closing = True
        await self._idle.wait()
        if self._later is not None:
            self._later.cancel()
        if self._ticks:
            await asyncio.wait(self._ticks)

    def _is_enough(self) -> bool:
        """Whether enough is queued for another concurrent commit."""
        return len(self._waiting) >= self.worthwhile * len(self._ticks)

    def _look_later(self) -> None:
        self._later = asyncio.get_running_loop().call_later(self.patience, self._look)

    def _look(self) -> None:
        """Begin a tick for what has waited long enough for company."""
        self._later = None
        if self._waiting and not self._scheduled and len(self._ticks) < self._slots:
            if self.oldest_wait >= self.patience:
                self._begin(self._next_tick())
            else:
                self._look_later()

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._ticks) < self._slots and self._is_enough():
            self._begin(self._next_tick())
        if self._waiting and self._later is None:
            self._look_later()
        self._metrics.queue.set(len(self._waiting))

    def _begin(self, tick: list[AnySubmission]) -> None:
        if tick:
            task = asyncio.get_running_loop().create_task(self._run(tick))
            self._ticks.add(task)
            task.add_done_callback(self._ended)

    def _next_tick(self) -> list[AnySubmission]:
        waiting = self._waiting
        self._expire()
        most = self._records
        if len(self._ticks) + 1 < self._slots:
            # Of many, half: while one half is answered, and its clients send again, the other is
            # appended. All in one tick, each side would wait for the other.
            most = min(most, max(2 * self.worthwhile, (self._held + 1) // 2))
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
        oldest = time.monotonic() - self._max_wait
        while self._waiting and self._waiting[0].since < oldest:
            submission = self._waiting.popleft()
            self._decide(
                submission,
                Problem(
                    OVERLOADED,
                    f"The append did not begin within {self._max_wait:g} s.",
                    headers=_RETRY_AFTER,
                ),
            )

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
        if self._held == 0:
            self._idle.set()

    def _deliver(self, submission: AnySubmission, verdict: Verdict) -> None:
        submission.verdict = verdict
        self._held -= 1
        self._held_bytes -= submission.size
        submission.waiter.count_down()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():  # cancelled: the request is gone, its message is not
        future.set_result(None)


def _shutting_down() -> Problem:
    return Problem(LOG_UNAVAILABLE, "This process is shutting down.", headers=_RETRY_AFTER)
