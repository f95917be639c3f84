"""The job and the result of a load generator."""

from __future__ import annotations

from typing import Literal

import msgspec

from lab.load.arrivals import Arrivals

__all__ = ["Job", "Result", "percentile"]


class Job(msgspec.Struct, kw_only=True):
    """One run against one address.

    In ``closed`` mode each connection sends its next request when the last one is answered. In
    ``open`` mode requests are due at ``rate`` per second, independent of the answers, and latency
    counts from when a request was *due*, so that a stall of the server shows in every request that
    it delayed (no coordinated omission).
    """

    host: str
    port: int
    mode: Literal["closed", "open"] = "closed"
    connections: int = 64
    seconds: float = 5.0
    """How long to measure; a closed run stops earlier once ``requests`` are answered."""
    requests: int | None = None
    warmup_seconds: float = 0.0
    """``closed``: seconds of load at the beginning that are not counted."""
    rate: float = 0.0
    arrivals: Arrivals = "even"
    begin: float = 0.0
    """``open``: when to begin, in seconds since the epoch, so that runs can take turns."""
    bursts: int = 1
    every: float = 0.0
    """``open``: seconds from the begin of one burst to the next; each has load for ``seconds``."""
    stretches: list[tuple[float, float]] = []
    """``open``: consecutive (rate, seconds) pairs, in place of ``rate``."""
    may_wait: bool = True
    """``open``: whether a request waits if every connection has an unanswered request. If not, it
    is not sent, like those of users who wait for their answer."""
    batch: int = 1
    """Messages per request: 1 uses ``/api/messages``, more use ``/api/messages:batch``."""
    conversations: int = 1000
    content_bytes: int = 64
    run: str = "run"
    """Part of every idempotency key, so that the messages of runs differ."""
    keep_times: bool = False
    """Report when each request was due and answered (seconds since the epoch), by number."""


class Result(msgspec.Struct, kw_only=True):
    """The outcome of a load. Latencies are seconds; ``statuses`` counts answers by HTTP status."""

    requests: int
    messages: int
    seconds: float
    statuses: dict[str, int]
    errors: int
    p50: float
    p90: float
    p99: float
    p999: float
    worst: float
    cpu_share: float
    """The share of one core that the generator used; near 1.0, the generator was the bottleneck."""
    request_bytes: int
    late_p99: float = 0.0
    """``open``: the generator's own delay in sending, 99th percentile."""
    unsent: int = 0
    """Requests that were not sent, since every connection had an unanswered request."""
    numbers: list[int] = []
    """``keep_times``: the numbers of the answered requests. ``codes``, ``due`` and ``answered``
    have their statuses and times, in the same order."""
    codes: list[int] = []
    due: list[float] = []
    answered: list[float] = []

    @property
    def messages_per_second(self) -> float:
        """Messages answered 2xx per second."""
        return self.messages / self.seconds if self.seconds else 0.0


def percentile(ordered: list[float], share: float) -> float:
    """Return the nearest-rank quantile ``share`` (0 to 1) of an ascending list; 0.0 if empty."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, int(share * len(ordered) + 0.5) - 1))]
