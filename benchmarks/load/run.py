"""The two ways to load a service: closed (as fast as it answers) and open (at a fixed rate)."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter, deque

from benchmarks.load.connection import Connection
from benchmarks.load.job import Job, Result, percentile
from benchmarks.load.requests import Requests

__all__ = ["run"]

_GRACE_SECONDS = 10.0


class _Run(ABC):
    """What both modes share: the connections and the record of answers."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests = Requests(job)
        self.next = 0
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.due: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.counting = False
        self.idle = asyncio.Event()
        self.connections: list[Connection] = []

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.job.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self.on_answer), self.job.host, self.job.port
            )
            self.connections.append(connection)

    @abstractmethod
    def on_answer(self, connection: Connection, status: int) -> None:
        """Take an answer: how the next request comes about is what runs differ in."""

    def close(self) -> None:
        for connection in self.connections:
            connection.close()

    def record(self, connection: Connection, status: int) -> None:
        now = time.perf_counter()
        self.statuses[status] += 1
        self.latencies.append(now - connection.due)
        if self.job.keep_times:
            self.answered[connection.number] = now


class _Closed(_Run):
    """Each connection sends its next request when the last is answered."""

    def on_answer(self, connection: Connection, status: int) -> None:
        if self.counting:
            self.record(connection, status)
            if len(self.latencies) == self.job.requests:
                self.idle.set()
        if connection.open and not self.idle.is_set():
            self.fire(connection)

    def fire(self, connection: Connection) -> None:
        connection.number = self.next
        self.next += 1
        request = self.requests.nth(connection.number)
        connection.due = time.perf_counter()
        if self.job.keep_times:
            self.due[connection.number] = connection.due
        connection.send(request)

    async def measure(self) -> float:
        for connection in self.connections:
            self.fire(connection)
        await asyncio.sleep(self.job.warmup_seconds)
        self.counting = True
        started = time.perf_counter()
        try:
            await asyncio.wait_for(self.idle.wait(), self.job.seconds)
        except TimeoutError:
            self.idle.set()
        return time.perf_counter() - started


class _Open(_Run):
    """Requests fall due at a fixed rate and wait for a free connection if none is."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.free: deque[Connection] = deque()
        self.waiting: deque[tuple[int, float]] = deque()
        self.late: list[float] = []
        self.outstanding = 0
        self.counting = True

    def on_answer(self, connection: Connection, status: int) -> None:
        self.record(connection, status)
        self.outstanding -= 1
        if connection.open:
            if self.waiting:
                self.fire(connection, *self.waiting.popleft())
            else:
                self.free.append(connection)
        if not self.outstanding:
            self.idle.set()

    def fire(self, connection: Connection, number: int, due: float) -> None:
        connection.number, connection.due = number, due
        connection.send(self.requests.nth(number))

    async def measure(self) -> float:
        self.free.extend(self.connections)
        total = int(self.job.rate * self.job.seconds)
        started = time.perf_counter()
        sent = 0
        while sent < total:
            # Whatever is due now goes out now; then sleep until the next one is.
            now = time.perf_counter()
            while sent < total and (due := started + sent / self.job.rate) <= now:
                self.arrive(sent, due, now)
                sent += 1
            await asyncio.sleep(max(0.0, started + sent / self.job.rate - time.perf_counter()))
        self.next = total
        if self.outstanding:
            self.idle.clear()
            await asyncio.wait_for(self.idle.wait(), _GRACE_SECONDS)
        return time.perf_counter() - started

    def arrive(self, number: int, due: float, now: float) -> None:
        self.late.append(now - due)
        self.outstanding += 1
        if self.job.keep_times:
            self.due[number] = due
        if self.free:
            self.fire(self.free.popleft(), number, due)
        else:
            self.waiting.append((number, due))


async def run(job: Job) -> Result:
    """Run a job and return its result. Raises ``OSError`` when nothing listens."""
    load = _Closed(job) if job.mode == "closed" else _Open(job)
    await load.connect()
    cpu, began = time.process_time(), time.perf_counter()
    try:
        seconds = await load.measure()
    finally:
        load.close()
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    epoch = time.time() - time.perf_counter()
    ordered = sorted(load.latencies)
    good = sum(count for status, count in load.statuses.items() if 200 <= status < 300)
    return Result(
        requests=len(ordered),
        messages=good * job.batch,
        seconds=seconds,
        statuses={str(status): count for status, count in sorted(load.statuses.items())},
        errors=len(ordered) - good,
        p50=percentile(ordered, 0.50),
        p90=percentile(ordered, 0.90),
        p99=percentile(ordered, 0.99),
        worst=ordered[-1] if ordered else 0.0,
        cpu_share=share,
        request_bytes=load.requests.request_bytes,
        late_p99=percentile(sorted(load.late), 0.99) if isinstance(load, _Open) else 0.0,
        due=[epoch + load.due[n] for n in sorted(load.due)],
        answered=[epoch + load.answered.get(n, float("nan")) for n in sorted(load.due)],
    )
