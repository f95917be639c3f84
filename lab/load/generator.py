"""The generator: sends a workload's requests over many connections, closed or open loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol, Self

from lab.load.connection import HttpAnswer, LoadConnection

__all__ = ["Generator", "Workload"]

_GRACE_SECONDS = 10.0


class Workload(Protocol):
    """Makes the requests and takes their answers. Requests are numbered from 0."""

    def request(self, number: int) -> bytes:
        """Return the bytes of one request."""

    def answered(self, number: int, due: float, answer: HttpAnswer | None) -> None:
        """Take an answer.

        Args:
            number: The request's number.
            due: When the request was due, by ``time.monotonic``. Count latency from here, so that
                a stall of the server shows in every request that it delayed.
            answer: The answer; ``None`` if the connection broke before it came.
        """


class Generator:
    """Sends requests over connections that ``async with`` opens.

    A connection that breaks is not replaced.

    Args:
        address: Host and port.
        connections: Number of connections.
        workload: Makes the requests and takes their answers.
        may_wait: Open loop: whether a request waits if no connection is free; else it is not sent.
    """

    def __init__(
        self,
        address: tuple[str, int],
        connections: int,
        workload: Workload,
        *,
        may_wait: bool = True,
    ) -> None:
        self._address = address
        self._count = connections
        self._workload = workload
        self._connections: list[LoadConnection] = []
        self._free: deque[LoadConnection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()
        self._closed_loop = False
        self._may_wait = may_wait
        self._unanswered = 0
        self._moments: Iterator[float] = iter(())
        self._all_sent = asyncio.Event()
        self._all_answered = asyncio.Event()
        self.sent = 0
        """Number of requests, including those that wait for a free connection."""
        self.unsent = 0
        """Open loop without waiting: number of requests for which no connection was free."""
        self.late: list[float] = []
        """Open loop: the generator's own delay of each request, in seconds."""

    async def __aenter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._connections.append(await LoadConnection.to(self._address, self._answered))
        except OSError:
            self._close()
            raise
        self._free.extend(self._connections)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._close()

    async def closed(self, enough: asyncio.Event, seconds: float) -> None:
        """Closed loop: each connection sends its next request when its last one is answered.

        Args:
            enough: Ends the loop when set.
            seconds: Ends the loop after this time.
        """
        self._closed_loop = True
        for connection in self._connections:
            self._fire(connection, self._next(), time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                await enough.wait()
        except TimeoutError:
            pass

    async def open(self, moments: Iterable[float]) -> None:
        """Open loop: send at these times (``time.monotonic``), independent of the answers.

        If no connection is free, ``may_wait`` decides whether a request waits for one.

        Raises:
            TimeoutError: a request is not answered 10 s after the last one was due.
        """
        self._moments = iter(moments)
        self._send_due(next(self._moments, None))
        await self._all_sent.wait()
        if self._unanswered:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._all_answered.wait()

    def _send_due(self, due: float | None) -> None:
        """Send the requests that are due, and schedule the next call."""
        now = time.monotonic()
        while due is not None and due <= now:
            self.late.append(now - due)
            if self._free:
                self._unanswered += 1
                self._fire(self._free.popleft(), self._next(), due)
            elif self._may_wait:
                self._unanswered += 1
                self._waiting.append((self._next(), due))
            else:
                self.unsent += 1
            due = next(self._moments, None)
        if due is None:
            self._all_answered.clear()
            self._all_sent.set()
        else:
            asyncio.get_running_loop().call_at(due, self._send_due, due)

    def _next(self) -> int:
        self.sent += 1
        return self.sent - 1

    def _fire(self, connection: LoadConnection, number: int, due: float) -> None:
        connection.number, connection.due = number, due
        connection.send(self._workload.request(number))

    def _answered(self, connection: LoadConnection, answer: HttpAnswer | None) -> None:
        self._workload.answered(connection.number, connection.due, answer)
        self._unanswered -= 1
        if self._unanswered == 0:
            self._all_answered.set()
        if not connection.open:
            return
        if self._closed_loop:
            self._fire(connection, self._next(), time.monotonic())
        elif self._waiting:
            self._fire(connection, *self._waiting.popleft())
        else:
            self._free.append(connection)

    def _close(self) -> None:
        for connection in self._connections:
            connection.close()
