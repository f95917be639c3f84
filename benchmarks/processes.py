"""The processes that are measured and those they are measured against, each under a guard."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import psutil

from benchmarks.load.job import Job, Result
from compose.local.ports import free_port
from compose.local.process import ServerProcess

__all__ = ["Running", "crossfade", "load", "program", "uvicorn_app"]

ROOT = Path(__file__).parent.parent


class Running(msgspec.Struct):
    """A process that takes requests at ``port`` (and shows metrics at ``metrics_port``)."""

    pid: int
    port: int
    metrics_port: int
    log_path: Path

    def rss(self) -> int:
        """Return its resident size in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def crossfade(
    command: str, folder: Path, environment: dict[str, str]
) -> AsyncIterator[Running]:
    """Run ``crossfade serve`` or ``crossfade worker`` until the block ends."""
    port, metrics_port = free_port(), free_port()
    ready = (port, "/healthz") if command == "serve" else (metrics_port, "/metrics")
    async with _run(
        f"crossfade-{command}-{port}",
        [
            sys.executable,
            "-c",
            "from compose.cli import main; main()",
            command,
        ],
        folder,
        {
            "PORT": str(port),
            "METRICS_PORT": str(metrics_port),
            "LOG_LEVEL": "warning",
            **environment,
        },
        lambda: _answers(*ready),
    ) as (pid, log_path):
        yield Running(pid, port, metrics_port, log_path)


@asynccontextmanager
async def uvicorn_app(
    app: str, folder: Path, environment: dict[str, str]
) -> AsyncIterator[Running]:
    """Run an ASGI app as fast as uvicorn can: uvloop, httptools, no access log, one process."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", app, "--port", str(port), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    async with _run(
        app.replace(":", "-"), command, folder, environment, lambda: _answers(port, "/")
    ) as (pid, log_path):
        yield Running(pid, port, 0, log_path)


async def load(job: Job) -> Result:
    """Run a load generator in a process of its own."""
    answer = await program("benchmarks.load", msgspec.json.encode(job))
    return msgspec.json.decode(answer, type=Result)


async def program(
    module: str, given: bytes = b"", environment: dict[str, str] | None = None
) -> bytes:
    """Run ``python -m module`` to its end; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        out, _ = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"python -m {module} ended with status {process.returncode}")
    return out


@asynccontextmanager
async def _run(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    ready: Callable[[], Awaitable[bool]],
) -> AsyncIterator[tuple[int, Path]]:
    log_path = folder / f"{name}.log"
    process = ServerProcess(
        name,
        data_dir=folder / name,
        log_path=log_path,
        environment={**environment, "PYTHONPATH": str(ROOT)},
    )
    await process.start(command, ready)
    assert process.pid is not None
    try:
        yield process.pid, log_path
        if not process.running:
            raise RuntimeError(f"{name} ended while it was measured:\n{process.log_tail()}")
    finally:
        await process.stop()


async def _answers(port: int, path: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            await client.get(f"http://127.0.0.1:{port}{path}")
    except httpx.TransportError:
        return False
    return True


def dumps(value: object) -> bytes:
    """Return JSON bytes for a child's standard input."""
    return json.dumps(value).encode()
