"""The two ways to load a service: closed (as fast as it answers) and open (at a fixed rate)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from selectors import BaseSelector, DefaultSelector, SelectSelector

from benchmarks.load.connection import Connection
from benchmarks.load.job import Job, Result, percentile
from benchmarks.load.requests import Requests

__all__ = ["run"]

_GRACE_SECONDS = 10.0


class _Run(ABC):
    """What both modes share: the connections and the record of answers."""

    def __init__(self, job: Job, selector: BaseSelector) -> None:
        self.job = job
        self.selector = selector
        self.requests = Requests(job)
        self.next = 0
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.due: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.counting = False
        self.connections: list[Connection] = []

    def connect(self) -> None:
        address = self.job.host, self.job.port
        for _ in range(self.job.connections):
            self.connections.append(Connection(self.selector, address, self.on_answer))

    @abstractmethod
    def measure(self) -> float:
        """Send everything; return how many seconds the counted part took."""

    @abstractmethod
    def on_answer(self, connection: Connection, status: int) -> None:
        """Take an answer: how the next request comes about is what runs differ in."""

    def turn(self, seconds: float) -> None:
        """Wait until some connection is ready, at most ``seconds``; see to all that are."""
        for key, _ in self.selector.select(max(0.0, seconds)):
            key.data()

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.selector.close()

    def record(self, connection: Connection, status: int) -> None:
        now = time.perf_counter()
        self.statuses[status] += 1
        self.latencies.append(now - connection.due)
        if self.job.keep_times:
            self.answered[connection.number] = now


class _Closed(_Run):
    """Each connection sends its next request when the last is answered."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, DefaultSelector())

    def on_answer(self, connection: Connection, status: int) -> None:
        if self.counting:
            self.record(connection, status)
        if connection.open:
            self.fire(connection)

    def fire(self, connection: Connection) -> None:
        connection.number = self.next
        self.next += 1
        request = self.requests.nth(connection.number)
        connection.due = time.perf_counter()
        if self.job.keep_times:
            self.due[connection.number] = connection.due
        connection.send(request)

    def measure(self) -> float:
        for connection in self.connections:
            self.fire(connection)
        began = time.perf_counter() + self.job.warmup_seconds
        while (left := began - time.perf_counter()) > 0:
            self.turn(left)
        self.counting = True
        began = time.perf_counter()
        most = self.job.requests or float("inf")
        while (left := began + self.job.seconds - time.perf_counter()) > 0:
            self.turn(left)
            if len(self.latencies) >= most:
                break
        return time.perf_counter() - began


class _Open(_Run):
    """Requests fall due at a fixed rate and wait for a free connection if none is."""

    def __init__(self, job: Job) -> None:
        # The one whose time limit is exact: others wait for whole milliseconds, so up to one late.
        super().__init__(job, SelectSelector())
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

    def fire(self, connection: Connection, number: int, due: float) -> None:
        connection.number, connection.due = number, due
        connection.send(self.requests.nth(number))

    def measure(self) -> float:
        self.free.extend(self.connections)
        burst = int(self.job.rate * self.job.seconds)
        total = burst * self.job.bursts
        began = time.perf_counter() + max(0.0, self.job.begin - time.time())

        def due(number: int) -> float:
            turn, number = divmod(number, burst)
            return began + turn * self.job.every + number / self.job.rate

        sent = 0
        while sent < total:
            # Whatever is due now goes out now; then wait until the next one is.
            now = time.perf_counter()
            while sent < total and (at := due(sent)) <= now:
                self.arrive(sent, at, now)
                sent += 1
            self.turn(due(sent) - time.perf_counter())
        self.next = total
        given_up = time.perf_counter() + _GRACE_SECONDS
        while self.outstanding:
            if time.perf_counter() > given_up:
                raise TimeoutError(f"{self.outstanding} requests are not answered")
            self.turn(given_up - time.perf_counter())
        return time.perf_counter() - began

    def arrive(self, number: int, due: float, now: float) -> None:
        self.late.append(now - due)
        self.outstanding += 1
        if self.job.keep_times:
            self.due[number] = due
        if self.free:
            self.fire(self.free.popleft(), number, due)
        else:
            self.waiting.append((number, due))


def run(job: Job) -> Result:
    """Run a job and return its result. Raises ``OSError`` when nothing listens."""
    load = _Closed(job) if job.mode == "closed" else _Open(job)
    load.connect()
    cpu, began = time.process_time(), time.perf_counter()
    try:
        seconds = load.measure()
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
