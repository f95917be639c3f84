"""``python -m lab.bench.costs``: measures the CPU time of a message, for ``crossfade capacity``.

One process accepts and one consumes, so that each is measured separately. The load is a closed
loop: the service runs at its limit, where batches are largest and a message is cheapest.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from compose.capacity.costs import DATA, Cost, Costs
from compose.interpreter import label
from compose.local.ports import free_port
from lab.bench.load.job import Job
from lab.bench.processes import ROOT, load
from lab.bench.stand import Stand, stand
from lab.bench.whole_path.cpu import cpu_seconds

_SECONDS = 10.0
_CONNECTIONS = 256
_SMALL, _LARGE = 100, 4100  # bytes of content
_PARTS = ("ingress", "worker", "log", "postgres")


@asynccontextmanager
async def _service(environment: dict[str, str], port: int) -> AsyncIterator[dict[str, int]]:
    """Run one process that accepts and one that consumes; yield their process ids by role."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from compose.cli import main; main()",
        "serve", "--processes", "1", "--workers", "1",
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "PORT": str(port), "METRICS_PORT": str(free_port())},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async for line in process.stderr:
            if b'"Started"' in line:
                break
        reading = asyncio.create_task(process.stderr.read())
        children = psutil.Process(process.pid).children()
        yield {child.cmdline()[3].split()[0]: child.pid for child in children}
    finally:
        process.terminate()
        await process.wait()
        await reading


async def _drained(servers: Stand) -> None:
    while await servers.backlog():  # noqa: ASYNC110 - a log to look at; there is no event
        await asyncio.sleep(0.1)


async def _measured(servers: Stand, content: int) -> dict[str, float]:
    """Return the CPU time of a message by part, in microseconds.

    Args:
        servers: The servers.
        content: Content of a message, in bytes.
    """
    await servers.empty_log()
    url, port = await servers.database(), free_port()
    async with _service(servers.environment(url), port) as found:
        pids = {"ingress": found["serve"], "worker": found["worker"], **servers.pids()}
        job = Job(
            host="127.0.0.1",
            port=port,
            content_bytes=content,
            seconds=2,
            run="warm",
            connections=_CONNECTIONS,
        )
        await load(job)
        await _drained(servers)
        before = cpu_seconds(pids)
        result = await load(msgspec.structs.replace(job, seconds=_SECONDS, run="costs"))
        await _drained(servers)
        used = {part: seconds - before[part] for part, seconds in cpu_seconds(pids).items()}
    if result.errors:
        raise RuntimeError(f"{result.errors} requests failed: {result.statuses}")
    return {part: seconds / result.messages * 1e6 for part, seconds in used.items()}


async def _main() -> None:
    with tempfile.TemporaryDirectory(prefix="crossfade-costs-") as folder:
        async with stand(Path(folder)) as servers:
            small = await _measured(servers, _SMALL)
            large = await _measured(servers, _LARGE)
            versions = servers.versions()
    per_kb = {
        part: max(0.0, (large[part] - small[part]) * 1000 / (_LARGE - _SMALL)) for part in small
    }
    costs = Costs(
        measured_at=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {label()}",
        log=versions["log"],
        postgres=versions["postgres"],
        parts={
            part: Cost(round(small[part] - per_kb[part] * _SMALL / 1000, 1), round(per_kb[part], 2))
            for part in _PARTS
        },
    )
    DATA.write_bytes(msgspec.json.format(msgspec.json.encode(costs)) + b"\n")
    print(DATA.read_text())


if __name__ == "__main__":
    asyncio.run(_main())
