"""Measures draining a backlog with one worker process: rows per second, CPU time and memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable

import asyncpg
import msgspec

from lab.bench.figure import Compared, Figure, Limit
from lab.bench.memory import Sampler, growth
from lab.bench.plan import Plan
from lab.bench.processes import crossfade, program
from lab.bench.samples import envelopes
from lab.bench.stand import Stand
from lab.bench.whole_path.cpu import cpu_seconds
from transport.contract import Envelope

__all__ = ["Drained", "drain", "measure"]

_POLL = 0.2
_PATIENCE = 900.0
_LOOPS = {
    "redis": "lab.bench.baselines.hand_written_worker",
    "kafka": "lab.bench.baselines.hand_written_kafka_worker",
}


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Drain the same backlog with our worker and with the baseline loop, in turn."""
    ours: list[float] = []
    loop: list[float] = []
    grown: list[float] = []
    details: dict[str, str | float | dict[str, int]] = {}
    for run in range(min(plan.runs, 3)):
        await _fill(stand, envelopes(plan.backlog, run=f"hand{run}"), plan.backlog)
        url = await stand.database()
        await program(_LOOPS[stand.transport], b"", stand.environment(url))
        loop.append(await _rows_per_second(url, plan.backlog))

        drained = await drain(stand, plan.backlog, f"ours{run}")
        ours.append(drained.rate)
        details[f"worker_cpu_us_per_message_{run}"] = drained.cpu_us
        grown.append(growth(drained.memory.samples))
        details[f"worker_rss_mb_{run}"] = drained.memory.summary()
    return [
        Compared(
            name=f"draining {plan.backlog:,}, one worker process",
            unit="rows/s",
            ours=ours,
            baseline_name="hand-written loop that reads ahead",
            baseline=loop,
            target=0.7,
            details=details,
        ),
        Limit(
            name="worker memory: growth, second half of the drain",
            unit="MB",
            values=grown,
            limit=8.0,
        ),
    ]


class Drained(msgspec.Struct, frozen=True):
    """The measurements of draining a backlog with one worker process."""

    rate: float
    """Rows per second between the first and the last commit."""
    whole_rate: float
    """Rows per second from the start of the process, so including it, to the last commit."""
    cpu_us: float
    """The worker's CPU time per message, in microseconds."""
    parts_us: dict[str, float]
    """CPU time per message by process tree, in microseconds, without the start of the worker."""
    memory: Sampler
    """Samples of the worker's memory."""


async def drain(
    stand: Stand,
    count: int,
    run: str,
    *,
    url: str | None = None,
    records: Iterable[Envelope] | None = None,
    settings: dict[str, str] | None = None,
) -> Drained:
    """Drain ``count`` messages from the log into the database at ``url``, or into a new one.

    Args:
        stand: The servers.
        count: Number of messages.
        run: Part of the messages' names.
        url: The database; by default a new one.
        records: Records to drain, ``count`` of them; by default small ones.
        settings: Further settings of the worker.
    """
    await _fill(stand, records or envelopes(count, run=run), count)
    url = url or await stand.database()
    after = await _last_row(url)
    environment = {**stand.environment(url), **(settings or {})}
    started = time.time()
    async with crossfade("worker", stand.folder, environment) as worker:
        pids = {"worker": worker.pid, **stand.pids()}
        before, begun = cpu_seconds(pids), await _last_row(url) - after
        async with Sampler(worker.pid) as sampler:
            await _until_rows(url, count, after=after)
        cpu = worker.cpu_seconds() / count * 1e6
        used = {part: seconds - before[part] for part, seconds in cpu_seconds(pids).items()}
    parts = {part: round(used[part] / max(1, count - begun) * 1e6, 1) for part in used}
    rate, last = await _rows_per_second(url, count, after=after)
    return Drained(rate, count / (last - started), round(cpu, 1), parts, sampler)


async def _last_row(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        last = "SELECT last_value FROM pg_sequences WHERE sequencename = 'messages_seq_seq'"
        return await connection.fetchval(last) or 0
    finally:
        await connection.close()


async def _fill(stand: Stand, records: Iterable[Envelope], count: int) -> None:
    await stand.empty_log()
    made = iter(records)
    async with stand.new_transport() as transport:
        while batch := list(itertools.islice(made, 1000)):
            await transport.publish(batch, remember=False)
    there = await stand.backlog()
    if there != count:
        raise RuntimeError(f"the log holds {there} records of {count}")


async def _until_rows(url: str, count: int, *, after: int = 0) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_PATIENCE):
            # Counting rows would load the measured server; reading a sequence doesn't.
            for so_far in (
                f"SELECT last_value - {after} FROM messages_seq_seq",
                f"SELECT count(*) FROM messages WHERE seq > {after}",
            ):
                while await connection.fetchval(so_far) < count:  # noqa: ASYNC110 - PostgreSQL's
                    await asyncio.sleep(_POLL)
    finally:
        await connection.close()


async def _rows_per_second(url: str, count: int, *, after: int = 0) -> tuple[float, float]:
    """Return the rate from the first to the last commit, and the time of the last commit.

    The rate excludes the first batch, so it excludes the start of Python and includes everything
    after that.
    """
    connection = await asyncpg.connect(url)
    try:
        batches = await connection.fetch(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at,"
            " count(*) AS rows FROM messages WHERE seq > $1 GROUP BY 1 ORDER BY 1",
            after,
        )
    finally:
        await connection.close()
    rows = sum(batch["rows"] for batch in batches)
    if rows != count:
        raise RuntimeError(f"{rows} rows of {count}")
    first, last = batches[0], batches[-1]
    return float((rows - first["rows"]) / (last["at"] - first["at"])), last["at"]
