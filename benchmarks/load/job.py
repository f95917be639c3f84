"""The order and the report of a load generator."""

from __future__ import annotations

from typing import Literal

import msgspec

from compose.load.arrivals import Arrivals

__all__ = ["Job", "Result", "percentile"]


class Job(msgspec.Struct, kw_only=True):
    """One run against one address.

    ``closed``: each of ``connections`` sends its next request when the last is answered. ``open``:
    requests are due at ``rate`` a second whatever the answers do, and a latency counts from the
    moment the request was *due*, so that a stall of the server shows in every request it delayed
    (no coordinated omission).
    """

    host: str
    port: int
    mode: Literal["closed", "open"] = "closed"
    connections: int = 64
    seconds: float = 5.0
    """How long to measure; a closed run stops earlier once ``requests`` are answered."""
    requests: int | None = None
    warmup_seconds: float = 0.0
    """``closed``: load that is sent first and not counted."""
    rate: float = 0.0
    arrivals: Arrivals = "even"
    begin: float = 0.0
    """``open``: when to begin, in seconds since the epoch, so that runs can take turns."""
    bursts: int = 1
    every: float = 0.0
    """``open``: load for ``seconds`` so many times, one each ``every`` seconds."""
    stretches: list[tuple[float, float]] = []
    """``open``: rates and for how many seconds each, one after another, in place of ``rate``."""
    may_wait: bool = True
    """``open``: whether a request waits where every connection has one unanswered; else it is not
    sent, as by users who wait for their answer."""
    batch: int = 1
    """Messages in a request: 1 posts to ``/api/messages``, more to ``/api/messages:batch``."""
    conversations: int = 1000
    content_bytes: int = 64
    run: str = "run"
    """Goes into every idempotency key, so that runs don't meet each other's messages."""
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
    """The share of one core that the generator used. Near 1.0 it was the bottleneck."""
    request_bytes: int
    late_p99: float = 0.0
    """``open``: how late the generator itself was in sending, 99th percentile."""
    unsent: int = 0
    """Requests that were due while every connection had one unanswered."""
    numbers: list[int] = []
    """``keep_times``: the requests that were answered, their statuses, and their times."""
    codes: list[int] = []
    due: list[float] = []
    answered: list[float] = []

    @property
    def messages_per_second(self) -> float:
        """Messages answered 2xx in a second."""
        return self.messages / self.seconds if self.seconds else 0.0


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of an ascending list lies (nearest rank)."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, int(share * len(ordered) + 0.5) - 1))]
