"""One measurement: a new service on a new database, one load, and all of its rows."""

from __future__ import annotations

import asyncio
import itertools
import os
import time

import asyncpg

from lab.bench.figure import Point
from lab.bench.load.job import percentile
from lab.bench.load.requests import client_message_id
from lab.bench.processes import Running, load
from lab.bench.stand import Stand
from lab.bench.whole_path.contenders import Contender
from lab.bench.whole_path.cpu import cpu_seconds
from lab.bench.whole_path.offered import Offered

__all__ = ["all_rows", "commits", "measure"]

_PATIENCE = 60.0
_EVERY = 0.1
_runs = itertools.count(1)


async def measure(
    stand: Stand, contender: Contender, offered: Offered, *, url: str | None = None
) -> Point:
    """Load one contender, wait for its last row, and return the figures.

    Args:
        stand: The servers.
        contender: The service.
        offered: The load.
        url: An existing database to use; by default a new one.

    Raises:
        RuntimeError: no message was accepted, or rows are missing.
    """
    await stand.empty_log()
    fresh = url is None
    url = url or await contender.database(stand)
    environment = {
        **stand.environment(url),
        "STREAM_PARTITIONS": str(offered.partitions),
        "REDIS_POOL_SIZE": str(offered.partitions + 20),
        **contender.settings,
        **offered.settings,
    }
    connection = await asyncpg.connect(url)
    try:
        async with contender.start(stand.folder, environment) as app:
            job = offered.job(app.port, f"run{next(_runs)}")
            warm = await load(offered.warm(job))
            first = await all_rows(connection, app, warm.messages)
            # Write the data of earlier rounds to disk now, so that it does not delay this round's
            # fsyncs.
            await asyncio.to_thread(os.sync)
            pids = {"service": app.pid, **stand.pids()}
            before = cpu_seconds(pids)
            result = await load(job)
            if not result.messages:
                raise RuntimeError(f"{contender.name}: {result.statuses}\n{app.log_tail()}")
            last = await all_rows(connection, app, first + result.messages)
            cpu = {name: seconds - before[name] for name, seconds in cpu_seconds(pids).items()}
        committed = await commits(connection, first, last)
    finally:
        await connection.close()
        if fresh:
            await stand.postgres.drop_database(url.rsplit("/", 1)[1])
    sent = {
        client_message_id(job.run, n): at for n, at in zip(result.numbers, result.due, strict=True)
    }
    took = sorted(at - sent[key] for key, at in committed.items() if key in sent)
    if len(took) < result.messages:
        raise RuntimeError(f"{contender.name}: {len(took)} rows of {result.messages} messages")
    seconds = max(*committed.values(), *result.answered) - min(result.due)
    return Point(
        name=contender.name,
        load=offered.label,
        rate=offered.rate,
        posts_per_second=round(result.messages_per_second, 1),
        rows_per_second=round(len(took) / seconds, 1),
        refused=result.errors,
        post_ms=[round(seconds * 1000, 2) for seconds in (result.p50, result.p99, result.p999)],
        row_ms=[round(percentile(took, share) * 1000, 2) for share in (0.5, 0.99, 0.999)],
        cpu_us={name: round(seconds / len(took) * 1e6, 1) for name, seconds in cpu.items()},
        generator_cpu=round(result.cpu_share, 2),
    )


async def all_rows(connection: asyncpg.Connection, app: Running, at_least: int) -> int:
    """Wait until the last row's number is ``at_least`` and no longer grows; return it.

    It reads the sequence: counting rows would load the measured server.

    Raises:
        RuntimeError: rows are missing after 60 seconds.
    """
    deadline = time.monotonic() + _PATIENCE
    seen = -1
    while True:
        last = int(await connection.fetchval("SELECT last_value FROM messages_seq_seq"))
        if last >= at_least and last == seen:
            return last
        if time.monotonic() > deadline:
            raise RuntimeError(f"{last} rows of {at_least}: {app.name}\n{app.log_tail()}")
        seen = last
        await asyncio.sleep(_EVERY)


async def commits(connection: asyncpg.Connection, after: int, last: int) -> dict[str, float]:
    """Return the commit time of each row, by ``clientMessageId``.

    PostgreSQL takes the time before it flushes the commit's WAL.
    """
    rows = await connection.fetch(
        "SELECT client_message_id AS id,"
        " extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at"
        " FROM messages WHERE seq > $1 AND seq <= $2",
        after,
        last,
    )
    return {row["id"]: row["at"] for row in rows}
