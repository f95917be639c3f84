"""Group commit: concurrent requests share one append and one fsync.

A request hands in its messages (``GroupCommit.submit``) and waits on one future. Messages go to a
queue (``commit_queue``). If the log is on several servers, each server has a queue of its own, so
that a server that hangs does not hold up messages for the others.

If a message with the same id is already on its way, the second one waits for it and gets the same
verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from ingress.accept.commit_queue import Commit, CommitQueue, TickPace
from ingress.accept.submission import AnySubmission, Waiter
from ingress.metrics import IngressMetrics
from ingress.schema.problems import LOG_UNAVAILABLE, OUTCOME_UNKNOWN, OVERLOADED, Problem
from ingress.schema.retry_after import BUSY
from ingress.settings import IngressSettings
from otel.metrics import Metrics
from transport.contract import Transport
from transport.features.several_servers import ServerOf, on_several_servers

__all__ = ["GroupCommit"]

_ALONE = ""


class GroupCommit:
    """The queue between requests and the log. Belongs to one event loop.

    Args:
        commit: Commits one tick: look-up, append and verdicts.
        transport: The log; says which server has which partition.
        settings: Has the limits of the queue.
        metrics: The process's metrics.
    """

    def __init__(
        self, commit: Commit, *, transport: Transport, settings: IngressSettings, metrics: Metrics
    ) -> None:
        self._commit = commit
        self._all_metrics = metrics
        self._metrics = metrics.of(IngressMetrics)
        for problem in (OVERLOADED, LOG_UNAVAILABLE, OUTCOME_UNKNOWN):
            self._metrics.failed.labels(problem.name)  # begins at 0: rate() sees the first
        self._limit = settings.ingress_queue_limit
        self._limit_bytes = settings.ingress_queue_bytes
        self.pace = TickPace(settings, transport.features.worthwhile)
        """The rules for when a tick begins."""
        self._partitions = transport.partitions
        self._servers = on_several_servers(transport)
        self._queues: dict[str, CommitQueue] = {}
        self._alone = self._queue(_ALONE)
        # The scraper's thread calls this.
        self._metrics.queue.set_function(
            lambda: sum(queue.waiting for queue in tuple(self._queues.values()))
        )
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def oldest_wait(self) -> float:
        """Seconds that the oldest message has waited for its tick; 0 if none waits."""
        return max(queue.oldest_wait for queue in self._queues.values())

    @property
    def held(self) -> int:
        """The number of messages that were handed in and have no verdict yet."""
        return sum(queue.held for queue in self._queues.values())

    def admit(self) -> None:
        """Refuse a request if too much waits. Call this before its body is read.

        Raises:
            Problem: Too many messages or bytes are held, the oldest message has waited too long, or
                the service is shutting down (503).
        """
        held, held_bytes = self._alone.held, self._alone.held_bytes
        if len(self._queues) > 1:
            held, held_bytes = self.held, sum(queue.held_bytes for queue in self._queues.values())
        if held < self._limit and held_bytes < self._limit_bytes:
            # With several servers, only the body says which server the message is for. So that
            # server's queue refuses it later.
            if self._alone.oldest_wait <= self.pace.max_wait:
                if self._closing:
                    raise _shutting_down()
                return
            seconds = self.pace.max_wait
            why = f"The oldest message has waited more than {seconds:g} s for its append."
        else:
            why = f"{held} messages ({held_bytes} bytes) wait for the log."
        self._metrics.shed.inc()
        raise Problem(OVERLOADED, why, headers=BUSY)

    def submit(self, submissions: Sequence[AnySubmission]) -> asyncio.Future[None]:
        """Hand in one request's messages.

        The messages for one server are committed in this order, in one tick.

        Returns:
            A future that is done when each message has its verdict.

        Raises:
            Problem: The service is shutting down (503). Nothing was handed in.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hand_in(submissions, partial(_wake, future))
        return future

    def hand_in(self, submissions: Sequence[AnySubmission], decided: Callable[[], None]) -> None:
        """Hand in messages as ``submit`` does, with a callback in place of the future.

        Args:
            submissions: One request's messages.
            decided: Called when each message has its verdict. It runs in the middle of a tick, so
                it must be quick and must not raise.

        Raises:
            Problem: The service is shutting down (503). Nothing was handed in.
        """
        if self._closing:
            raise _shutting_down()
        self._idle.clear()
        waiter = Waiter(decided, len(submissions))
        server_of = None if self._servers is None else self._servers.server_of
        if server_of is None:
            self._alone.hand_in(submissions, waiter)
            return
        for name, some in self._by_server(submissions, server_of).items():
            queue = self._queue(name)
            if self._is_full(queue):
                queue.refuse(some, waiter)
            else:
                queue.hand_in(some, waiter)

    async def close(self) -> None:
        """Take no more messages, and wait until all that were handed in have their verdict."""
        self._closing = True
        await self._idle.wait()
        for queue in self._queues.values():
            await queue.close()

    def _is_full(self, queue: CommitQueue) -> bool:
        """Return whether too much waits for one of several servers: others need room too."""
        return (
            queue.oldest_wait > self.pace.max_wait
            or queue.held > self._limit // 2
            or queue.held_bytes > self._limit_bytes // 2
        )

    def _by_server(
        self, submissions: Sequence[AnySubmission], server_of: ServerOf
    ) -> dict[str, list[AnySubmission]]:
        found: dict[str, list[AnySubmission]] = {}
        for submission in submissions:
            name = server_of(submission.partition(self._partitions))
            found.setdefault(name, []).append(submission)
        return found

    def _queue(self, name: str) -> CommitQueue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = CommitQueue(
                self._commit, pace=self.pace, metrics=self._all_metrics, emptied=self._emptied
            )
        return queue

    def _emptied(self) -> None:
        if not any(queue.held for queue in self._queues.values()):
            self._idle.set()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():  # it is done if the request was cancelled; its message went on
        future.set_result(None)


def _shutting_down() -> Problem:
    return Problem(LOG_UNAVAILABLE, "This process is shutting down.", headers=BUSY)
