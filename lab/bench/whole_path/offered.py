"""A load: its connections, its rate and its length."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lab.bench.load.job import Job

__all__ = ["Offered"]

_WARM_SECONDS = 1.5
_WARM_CONNECTIONS = 64


class Offered(msgspec.Struct, kw_only=True, frozen=True):
    """One load: a closed loop without a ``rate``, else an open loop with Poisson arrivals."""

    connections: int = 64
    rate: float | None = None
    """Messages per second."""
    seconds: float = 5.0
    requests: int | None = None
    """Closed loop: ends before ``seconds`` once so many requests are answered."""
    partitions: int = 16
    settings: Mapping[str, str] = {}
    """Further settings of the service, besides the addresses of its servers."""
    what: str = ""
    """A note for the table, such as the number of partitions."""

    @property
    def label(self) -> str:
        """A description of the load for the table."""
        rate = "closed loop" if self.rate is None else f"{self.rate:,.0f}/s"
        words = [self.what, f"{self.connections:,} connections, {rate}"]
        if self.partitions != 16:
            words.insert(1, f"{self.partitions} partitions")
        return ", ".join(word for word in words if word)

    def job(self, port: int, run: str) -> Job:
        """Return the job of a load generator."""
        return Job(
            host="127.0.0.1",
            port=port,
            mode="closed" if self.rate is None else "open",
            arrivals="poisson",
            rate=self.rate or 0.0,
            connections=self.connections,
            seconds=self.seconds,
            requests=self.requests,
            run=run,
            keep_times=True,
        )

    def warm(self, job: Job) -> Job:
        """Return the warm-up job before ``job``, which fills caches and lets a JVM compile."""
        return Job(
            host=job.host,
            port=job.port,
            connections=min(self.connections, _WARM_CONNECTIONS),
            seconds=_WARM_SECONDS,
            run=f"{job.run}-warm",
        )
