"""From costs to cores: linear, and no better than the costs that it is given.

A core is a core of the machine that was measured. A process of ours and Redis use one each at most;
PostgreSQL uses as many as there are.
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
_RECORD_BYTES = 700  # of a record or row, beside its content
_DAY = 86_400


class Need(msgspec.Struct, frozen=True):
    """The needs of one part."""

    cores: float
    """Cores that it keeps busy."""
    processes: int | None
    """Processes of one core each; ``None`` for a server, which divides its work itself."""


class Ceiling(msgspec.Struct, frozen=True, rename="camel"):
    """The most messages a second on one machine."""

    cores: int
    messages_per_second: int
    limit: str
    """The bottleneck: ``cores``, or ``log``."""


class Capacity(msgspec.Struct, frozen=True, rename="camel"):
    """The needs of a rate."""

    parts: dict[str, Need]
    cores: float
    """Cores for all parts, each core as busy as was asked."""
    log_is_enough: bool
    """Whether one Redis can take them."""
    redis_bytes: int
    """Memory in ordinary times; an outage of PostgreSQL adds ``row_bytes`` a message."""
    row_bytes: int
    rows_bytes_a_day: int


def capacity(costs: Costs, rate: float, content_bytes: int, busy: float) -> Capacity:
    """Return the cores, memory and disk that a rate needs.

    Args:
        costs: As measured on one machine.
        rate: Messages a second.
        content_bytes: Of each message.
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
    """Return the most that one machine with so many cores takes, all parts on it."""
    each = {part: cost.of(content_bytes) for part, cost in costs.parts.items()}
    by_cores = cores * busy / sum(each.values())
    by_log = busy / each["log"]
    limit = "cores" if by_cores <= by_log else "log"
    return Ceiling(cores, round(min(by_cores, by_log)), limit)
