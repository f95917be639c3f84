"""The model that computes cores from costs. It is linear, and as accurate as the measured costs.

A core is a core of the measured machine. Each service process and Redis use one core at most;
PostgreSQL uses as many as the machine has.
"""

from __future__ import annotations

import math

import msgspec

from compose.capacity.costs import Costs

__all__ = ["Capacity", "Ceiling", "Need", "capacity", "ceiling"]

_RETENTION_SECONDS = 300  # STREAM_RETENTION_SECONDS
_RETENTION_RECORDS = 16 * 10_000  # STREAM_PARTITIONS x STREAM_RETENTION_RECORDS
_REMEMBERED_SECONDS = 600  # twice IDEMPOTENCY_TTL_SECONDS
_REMEMBERED_BYTES = 200
_RECORD_BYTES = 700  # size of a record or row without its content
_DAY = 86_400


class Need(msgspec.Struct, frozen=True):
    """The needs of one part."""

    cores: float
    """Number of cores that it keeps busy."""
    processes: int | None
    """Number of processes; ``None`` for a server, which divides its work itself."""


class Ceiling(msgspec.Struct, frozen=True, rename="camel"):
    """The highest rate on one machine."""

    cores: int
    messages_per_second: int
    limit: str
    """The bottleneck: ``cores``, or ``log``."""


class Capacity(msgspec.Struct, frozen=True, rename="camel"):
    """The resources that a rate needs."""

    parts: dict[str, Need]
    cores: float
    """Cores for all parts, at the requested utilization."""
    log_is_enough: bool
    """Whether one Redis sustains the rate."""
    redis_bytes: int
    """Redis's memory without an outage; an outage of PostgreSQL adds ``row_bytes`` per message."""
    row_bytes: int
    rows_bytes_a_day: int


def capacity(costs: Costs, rate: float, content_bytes: int, busy: float) -> Capacity:
    """Return the cores, memory and disk that a rate needs.

    Args:
        costs: Costs measured on one machine.
        rate: Messages per second.
        content_bytes: Content of each message, in bytes.
        busy: The share of a core (0 to 1) that may be in use.
    """
    used = {part: rate * cost.of(content_bytes) for part, cost in costs.parts.items()}
    record = content_bytes + _RECORD_BYTES
    return Capacity(
        parts={
            part: Need(
                round(cores, 3),
                max(1, math.ceil(cores / busy)) if part in {"ingress", "worker"} else None,
            )
            for part, cores in used.items()
        },
        cores=round(sum(used.values()) / busy, 2),
        log_is_enough=used["log"] <= busy,
        redis_bytes=round(
            min(rate * _RETENTION_SECONDS, _RETENTION_RECORDS) * record
            + rate * _REMEMBERED_SECONDS * _REMEMBERED_BYTES
        ),
        row_bytes=record,
        rows_bytes_a_day=round(rate * _DAY * record),
    )


def ceiling(costs: Costs, cores: int, content_bytes: int, busy: float) -> Ceiling:
    """Return the highest rate on one machine that runs all parts.

    Args:
        costs: Costs measured on one machine.
        cores: Cores of the machine.
        content_bytes: Content of each message, in bytes.
        busy: The share of a core (0 to 1) that may be in use.
    """
    each = {part: cost.of(content_bytes) for part, cost in costs.parts.items()}
    by_cores = cores * busy / sum(each.values())
    by_log = busy / each["log"]
    limit = "cores" if by_cores <= by_log else "log"
    return Ceiling(cores, round(min(by_cores, by_log)), limit)
