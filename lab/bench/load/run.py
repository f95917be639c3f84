"""Run one job: send its requests through a generator, and return the outcome."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator

from lab.bench.load.job import Job, Result, percentile
from lab.bench.load.requests import Requests
from lab.load.arrivals import gaps
from lab.load.connection import HttpAnswer
from lab.load.generator import Generator

__all__ = ["run"]


class _Record(Requests):
    """The job as a workload; keeps the times of requests only if the job asks for them."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._keep = job.keep_times
        self._most = job.requests or float("inf")
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.due: dict[int, float] = {}
        self.answers: dict[int, float] = {}
        self.codes: dict[int, int] = {}
        self.counting = job.mode == "open"
        self.enough = asyncio.Event()

    def answered(self, number: int, due: float, answer: HttpAnswer | None) -> None:
        """Record the latency and the status of an answer."""
        if not self.counting:
            return
        now = time.monotonic()
        status = answer.status if answer else 0
        self.statuses[status] += 1
        self.latencies.append(now - due)
        if self._keep:
            self.due[number], self.answers[number], self.codes[number] = due, now, status
        if len(self.latencies) >= self._most:
            self.enough.set()


async def run(job: Job) -> Result:
    """Run a job and return its result.

    Raises:
        OSError: no server listens at the job's address.
    """
    record = _Record(job)
    address = job.host, job.port
    async with Generator(address, job.connections, record, may_wait=job.may_wait) as generator:
        cpu, began = time.process_time(), time.monotonic()
        if job.mode == "open":
            await generator.open(_moments(job))
            seconds = time.monotonic() - began
        else:
            asyncio.get_running_loop().call_later(job.warmup_seconds, _count, record)
            await generator.closed(record.enough, job.warmup_seconds + job.seconds)
            seconds = time.monotonic() - began - job.warmup_seconds
        share = (time.process_time() - cpu) / (time.monotonic() - began)
    epoch = time.time() - time.monotonic()
    ordered = sorted(record.latencies)
    good = sum(count for status, count in record.statuses.items() if 200 <= status < 300)
    return Result(
        requests=len(ordered),
        messages=good * job.batch,
        seconds=seconds,
        statuses={str(status): count for status, count in sorted(record.statuses.items())},
        errors=len(ordered) - good,
        p50=percentile(ordered, 0.50),
        p90=percentile(ordered, 0.90),
        p99=percentile(ordered, 0.99),
        p999=percentile(ordered, 0.999),
        worst=ordered[-1] if ordered else 0.0,
        cpu_share=share,
        request_bytes=record.request_bytes,
        late_p99=percentile(sorted(generator.late), 0.99),
        due=[epoch + record.due[n] for n in sorted(record.due)],
        answered=[epoch + record.answers[n] for n in sorted(record.due)],
        unsent=generator.unsent,
        numbers=sorted(record.due),
        codes=[record.codes[n] for n in sorted(record.due)],
    )


def _count(record: _Record) -> None:
    record.counting = True


def _moments(job: Job) -> Iterator[float]:
    """Yield the due time of each request of an open job."""
    began = time.monotonic() + max(0.0, job.begin - time.time())
    for number, (rate, seconds) in enumerate(job.stretches):
        later = itertools.accumulate(gaps(rate, job.arrivals, f"{job.run}-{number}"))
        for gap in itertools.takewhile(lambda gap, most=seconds: gap < most, later):
            yield began + gap
        began += seconds
    if job.stretches:
        return
    for burst in range(job.bursts):
        start = began + burst * job.every
        later = itertools.accumulate(gaps(job.rate, job.arrivals, job.run), initial=0.0)
        for gap in itertools.islice(later, int(job.rate * job.seconds)):
            yield start + gap
