"""Measures latencies to the answer and to the committed row at 500 POST/s, open loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from lab.bench.figure import Figure, Limit
from lab.bench.load.job import Job, Result, percentile
from lab.bench.load.requests import client_message_id
from lab.bench.plan import Plan
from lab.bench.processes import crossfade, load
from lab.bench.stand import Stand
from transport.contract import WORKER_GROUP, Topic

__all__ = ["measure"]

_RATE = 500.0
_RUN = "steady"
_LAG_EVERY = 0.25
_FLUSHES = 200
_PATIENCE = 30.0


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Post at a fixed rate through one process that accepts and persists.

    Raises:
        RuntimeError: a message was refused.
    """
    await stand.empty_log()
    url = await stand.database()
    job = Job(
        host="127.0.0.1",
        port=0,
        mode="open",
        rate=_RATE,
        seconds=plan.steady_seconds,
        run=_RUN,
        keep_times=True,
    )
    async with crossfade("serve", stand.folder, stand.environment(url)) as app:
        job.port = app.port
        # The first requests of a process warm caches and open connections.
        await load(
            Job(host=job.host, port=app.port, mode="open", rate=_RATE, seconds=2, run="warm")
        )
        async with _worst_lag(stand) as lag:
            result = await load(job)
        if result.errors:
            raise RuntimeError(f"{result.errors} requests failed: {result.statuses}")
        to_row = await _to_committed_row(url, result)
        flush = await _flush_p99(url)
    # A commit's time is taken before its WAL is flushed, so add the p99 of a flush.
    rows_p99 = percentile(to_row, 0.99) + flush
    return [
        Limit(
            name=f"{_RATE:.0f} POST/s for {plan.steady_seconds:.0f} s: POST p99",
            unit="ms",
            values=[result.p99 * 1000],
            limit=20.0,
            details={
                "p50_ms": round(result.p50 * 1000, 2),
                "worst_ms": round(result.worst * 1000, 2),
                "generator_late_p99_ms": round(result.late_p99 * 1000, 2),
                "requests": float(result.requests),
            },
        ),
        Limit(
            name="the same: POST to committed row p99",
            unit="ms",
            values=[rows_p99 * 1000],
            limit=50.0,
            details={
                "p50_ms": round(percentile(to_row, 0.5) * 1000, 2),
                "worst_ms": round(to_row[-1] * 1000, 2),
                "flush_p99_ms_included": round(flush * 1000, 2),
            },
        ),
        Limit(
            name="the same: worst lag, all partitions together",
            unit="messages",
            values=[float(max(lag, default=0))],
            limit=101.0,
            details={"samples": float(len(lag))},
        ),
    ]


@asynccontextmanager
async def _worst_lag(stand: Stand) -> AsyncIterator[list[int]]:
    """Sample the sum of all partitions' lag until the block ends."""
    seen: list[int] = []

    async with stand.new_transport() as transport:

        async def sample() -> None:
            while True:
                progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
                seen.append(sum(p.lag or 0 for p in progress))
                await asyncio.sleep(_LAG_EVERY)

        task = asyncio.create_task(sample())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _to_committed_row(url: str, result: Result) -> list[float]:
    """Return the seconds from when each POST was due to its row's commit, ascending."""
    wanted = {client_message_id(_RUN, n): due for n, due in enumerate(result.due)}
    connection = await asyncpg.connect(url)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            rows = await connection.fetch(
                "SELECT client_message_id AS id,"
                " extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at FROM messages"
                " WHERE client_message_id LIKE $1",
                f"{_RUN}-%",
            )
            if len(rows) == len(wanted):
                return sorted(row["at"] - wanted[row["id"]] for row in rows)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(rows)} rows of {len(wanted)} after {_PATIENCE} s")
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _flush_p99(url: str) -> float:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS flushes (n int)")
        took = []
        for n in range(_FLUSHES):
            began = time.perf_counter()
            await connection.execute(f"INSERT INTO flushes VALUES ({n})")
            took.append(time.perf_counter() - began)
        await connection.execute("DROP TABLE flushes")
    finally:
        await connection.close()
    return percentile(sorted(took), 0.99)
