"""Measures the cost of tracing for a single POST: off, on and unsampled, on and sampled.

It compares the ingress's CPU time and not throughput, which varies with the load of the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from lab.bench.figure import Figure, Limit, median
from lab.bench.figures.single_post import fill_table
from lab.bench.load.job import Job
from lab.bench.metrics_page import fetch
from lab.bench.plan import Plan
from lab.bench.processes import Running, crossfade, load
from lab.bench.stand import Stand

__all__ = ["measure"]

_CONNECTIONS = 64
_SLICES, _SLICE_SECONDS = 4, 1.0
_UNSAMPLED = 1.05
_SAMPLED = 10.0  # reported, but not a promise: most of this cost is the SDK's encoding


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Load the three in turn; compare the medians."""
    await stand.empty_log()
    url = await stand.database()
    await fill_table(url, plan.rows_before)
    async with AsyncExitStack() as stack:
        collector = await stack.enter_async_context(_sink())
        environment = {**stand.environment(url), "ENABLE_STREAM_CONSUMERS": "false"}
        traced = {
            **environment,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        }
        kinds = {
            "off": environment,
            "unsampled": {**traced, "OTEL_TRACES_SAMPLER_ARG": "0"},
            "sampled": {**traced, "OTEL_TRACES_SAMPLER_ARG": "1"},
        }
        running = {
            name: await stack.enter_async_context(crossfade("serve", stand.folder, settings))
            for name, settings in kinds.items()
        }
        spent: dict[str, list[float]] = {name: [] for name in running}
        for run in range(-1, _SLICES * plan.runs):
            # Short slices in alternating order, so that the order does not matter.
            names = ["off", "unsampled"][:: 1 if run % 2 else -1]
            for name in [*names, "sampled"] if run % _SLICES == 0 else names:
                spent[name].append(await _cpu(running[name], _SLICE_SECONDS, f"{name}{run}"))
        del spent["off"][0], spent["unsampled"][0]  # drop the slices of cold processes
        page = await fetch(running["sampled"].metrics_port)
    details: dict[str, str | float | dict[str, int]] = {
        f"{name}_us_per_post": round(median(seconds) * 1e6, 1) for name, seconds in spent.items()
    }
    details["sampled_spans_exported"] = page.total("trace_spans_exported_total")
    details["sampled_spans_dropped"] = page.total("trace_spans_dropped_total")
    return [
        Limit(
            name=f"CPU time of a POST, tracing {what}, over off",
            unit="x",
            values=[median(spent[name]) / median(spent["off"])],
            limit=limit,
            details=details,
        )
        for name, what, limit in (
            ("unsampled", "on and not sampled", _UNSAMPLED),
            ("sampled", "on and all sampled", _SAMPLED),
        )
    ]


async def _cpu(app: Running, seconds: float, run: str) -> float:
    """Return the CPU time of the ingress's process per POST, in seconds."""
    before = app.cpu_seconds()
    result = await load(
        Job(
            host="127.0.0.1", port=app.port, connections=_CONNECTIONS, seconds=seconds, run=run,
        )
    )  # fmt: skip
    if result.errors:
        raise RuntimeError(f"{run}: {result.errors} requests failed: {result.statuses}")
    return (app.cpu_seconds() - before) / result.requests


@asynccontextmanager
async def _sink() -> AsyncIterator[str]:
    """Run an OTLP receiver over HTTP that discards everything; yield its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
