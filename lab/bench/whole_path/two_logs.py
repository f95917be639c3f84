"""Measures the cost of a migration while it lasts: more partitions, and both logs on one Redis."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from lab.bench.figure import Compared, Figure, Limit, Point
from lab.bench.plan import Plan
from lab.bench.stand import Stand
from lab.bench.whole_path.contenders import CONTENDERS
from lab.bench.whole_path.measure import measure
from lab.bench.whole_path.offered import Offered
from lab.bench.whole_path.turns import there_and_back
from persistence.fleet.log_choice import LogPair, choices

__all__ = ["as_the_log_changes"]

_PAIR = LogPair("redis", "redis@32")
_CONNECTIONS = "48"  # enough for one process that owns all 32 partitions
_SYNCS = 50
_SYNC_BYTES = 4096
_P99 = 1


async def as_the_log_changes(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure phases 0, 5 and 2 of a walk from 16 partitions to 32 on one server, in turn."""
    if stand.transport != "redis":
        return []
    before, after, both = (
        Offered(
            seconds=plan.seconds,
            what=what,
            settings={**choices(_PAIR)[phase].environment(), "REDIS_POOL_SIZE": _CONNECTIONS},
        )
        for what, phase in (("16 partitions", 0), ("32 partitions", 5), ("both logs, in sync", 2))
    )
    service = CONTENDERS["crossfade"]
    points = [
        await measure(stand, service, load)
        for load in there_and_back((before, after, both), plan.rounds)
    ]
    one, more, two = ([p for p in points if p.load == o.label] for o in (before, after, both))
    fsync = _fsync_ms(stand.folder)
    # The latency of two appends without the second fsync, divided by the latency of one append.
    tails = [
        (of_two.post_ms[_P99] - fsync) / of_one.post_ms[_P99]
        for of_one, of_two in zip(one, two, strict=True)
    ]
    return [
        _posts("POSTs on 32 partitions beside 16", more, one, 0.97),
        _posts("POSTs into two Redis logs of one server, in sync", two, one, 0.55),
        Limit(
            name="their p99 without one fsync, over that of one log",
            unit="",
            values=tails,
            limit=2.0,
            details={"fsync_ms": round(fsync, 3)},
        ),
        *points,
    ]


def _posts(name: str, ours: Sequence[Point], base: Sequence[Point], target: float) -> Compared:
    return Compared(
        name=name,
        unit="/s",
        ours=[point.posts_per_second for point in ours],
        baseline_name=base[0].load,
        baseline=[point.posts_per_second for point in base],
        target=target,
    )


def _fsync_ms(folder: Path) -> float:
    """Return the median time of an fsync on the log's disk, in milliseconds."""
    took = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(bytes(_SYNC_BYTES))
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)
