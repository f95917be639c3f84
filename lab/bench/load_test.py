"""The guide's load test with artillery, and its success criteria.

``python -m lab.bench.load_test`` starts everything, runs ``load-test.yml`` unchanged, and checks
enqueue rate, lag, processing p95, dead letters and crashes. It needs ``artillery`` on the PATH, or
its path in ``ARTILLERY`` (``PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install artillery``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console

from lab.bench.figure import Figure, Limit
from lab.bench.metrics_page import Page, fetch
from lab.bench.processes import Running, crossfade
from lab.bench.report import save, show
from lab.bench.stand import Stand, stand

SCRIPT = Path(__file__).parent / "load-test.yml"
_SCRAPE_EVERY = 1.0
_PATIENCE = 30.0


def main(
    scale: Annotated[float, typer.Option(help="Times the durations; 1 is the guide's.")] = 1.0,
) -> None:
    """Run the load test. Exits with 1 if a criterion is not met."""
    artillery = os.environ.get("ARTILLERY") or shutil.which("artillery")
    if artillery is None:
        raise typer.BadParameter(
            "artillery is not on the PATH: install it with "
            "'PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install -g artillery', or set ARTILLERY"
        )
    figures = asyncio.run(_run(artillery, scale))
    if not all(figure.met for figure in figures):
        raise typer.Exit(1)


async def _run(artillery: str, scale: float) -> list[Figure]:
    console = Console()
    with tempfile.TemporaryDirectory(prefix="crossfade-load-") as name:
        folder = Path(name)
        async with stand(folder) as servers:
            url = await servers.database()
            async with crossfade("serve", folder, servers.environment(url)) as app:
                async with _watched(app) as pages:
                    report = await _artillery(artillery, app, scale, folder)
                page = await _settled(servers, app)
            rows = await _rows(url)
            figures = judge(report, pages, page, rows)
            path = save(
                figures, transport="redis-artillery", quick=scale < 1, servers=servers.versions()
            )
    show(console, figures, title="the guide's load test")
    console.print(f"kept in {path}")
    return figures


def judge(report: dict[str, Any], pages: list[Page], page: Page, rows: int) -> list[Figure]:
    """Return the guide's criteria as figures.

    Args:
        report: artillery's report.
        pages: Metrics scraped during the run.
        page: Metrics scraped at the end.
        rows: Number of rows at the end.
    """
    counters = report["aggregate"]["counters"]
    arrived = counters["vusers.created"]
    response = report["aggregate"]["summaries"]["http.response_time"]
    enqueued = page.total("stream_enqueue_total")
    details: dict[str, str | float | dict[str, int]] = {
        "arrived": float(arrived),
        "answered": {k: v for k, v in counters.items() if k.startswith("http.codes")},
        "enqueued": enqueued,
        "response_ms_p95": response["p95"],
        "response_ms_p99": response["p99"],
    }
    p95 = page.quantile_bound("stream_processing_duration_seconds", 0.95)
    return [
        Limit(
            name="enqueued for each arrival",
            unit="",
            values=[enqueued / arrived],
            limit=1.0,
            must_be="at least",
            details=details,
        ),
        Limit(
            name="worst lag of a partition",
            unit="messages",
            values=[max((p.largest("stream_partition_lag") for p in pages), default=0.0)],
            limit=1000.0,
        ),
        Limit(
            name="processing duration p95 (bucket's upper bound)",
            unit="ms",
            values=[p95 * 1000],
            limit=100.0,
        ),
        Limit(
            name="dead letters",
            unit="",
            values=[page.total("stream_dead_letter_total")],
            limit=1.0,
        ),
        Limit(
            name="rows for each arrival (no consumer crashed and none was missed)",
            unit="",
            values=[rows / arrived],
            limit=1.0,
            must_be="at least",
        ),
    ]


@contextlib.asynccontextmanager
async def _watched(app: Running) -> AsyncIterator[list[Page]]:
    pages: list[Page] = []

    async def scrape() -> None:
        while True:
            pages.append(await fetch(app.metrics_port))
            await asyncio.sleep(_SCRAPE_EVERY)

    task = asyncio.create_task(scrape())
    try:
        yield pages
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _artillery(command: str, app: Running, scale: float, folder: Path) -> dict[str, Any]:
    script, report = folder / "load-test.yml", folder / "report.json"
    text = SCRIPT.read_text()
    if scale != 1.0:
        text = re.sub(
            r"duration: (\d+)", lambda m: f"duration: {max(1, round(int(m[1]) * scale))}", text
        )
    script.write_text(text)
    process = await asyncio.create_subprocess_exec(
        command, "run", "--target", f"http://127.0.0.1:{app.port}", "--output", str(report),
        str(script), env={**os.environ, "ARTILLERY_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if status:
        raise RuntimeError(f"artillery ended with status {status}")
    parsed: dict[str, Any] = json.loads(report.read_text())
    return parsed


async def _settled(servers: Stand, app: Running) -> Page:
    async with asyncio.timeout(_PATIENCE):
        while await servers.backlog():  # noqa: ASYNC110 - another process's backlog
            await asyncio.sleep(0.5)
    return await fetch(app.metrics_port)


async def _rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM messages"))
    finally:
        await connection.close()


if __name__ == "__main__":
    typer.run(main)
