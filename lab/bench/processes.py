"""The measured processes and the baselines' processes, each under a guard."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Self

import httpx
import msgspec
import psutil

from compose.local.ports import free_port
from compose.local.server import LocalServer
from lab.bench.load.job import Job, Result

__all__ = [
    "ROOT",
    "Running",
    "crossfade",
    "go_service",
    "load",
    "program",
    "python_of",
    "uvicorn_app",
]

ROOT = Path(__file__).parents[2]


class Running(LocalServer):
    """A measured process.

    Args:
        name: The name of its log.
        command: The program and its arguments.
        folder: The folder for its data and log.
        environment: Variables in addition to the benchmark's own.
        port: The port at which it takes requests.
        ready: A URL that answers once it takes requests.
        metrics_port: The port of its metrics; 0 without metrics.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        *,
        port: int,
        ready: str,
        metrics_port: int = 0,
    ) -> None:
        environment = {"PYTHONPATH": str(ROOT), **environment}
        super().__init__(name, folder / name, port=port, environment=environment)
        self.metrics_port = metrics_port
        self._arguments = command
        self._ready = ready

    def rss(self) -> int:
        """Return its resident size in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu_seconds(self) -> float:
        """Return its CPU time so far, in seconds."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[Self]:
        """Run until the block ends.

        Raises:
            RuntimeError: the process ended before the block.
        """
        async with self:
            yield self
            if not self.running:
                raise RuntimeError(f"{self.name} ended while it was measured:\n{self.log_tail()}")

    def _command(self) -> Sequence[str]:
        return self._arguments

    async def _is_ready(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                await client.get(self._ready)
        except httpx.TransportError:
            return False
        return True


def python_of(checkout: Path) -> str:
    """Return the interpreter of a checkout: ours for this one, else that of its ``.venv``."""
    return sys.executable if checkout == ROOT else str(checkout / ".venv" / "bin" / "python")


def crossfade(
    command: str,
    folder: Path,
    environment: dict[str, str],
    *,
    checkout: Path = ROOT,
    options: Sequence[str] = (),
) -> AbstractAsyncContextManager[Running]:
    """Run ``crossfade serve`` or ``crossfade worker`` until the block ends."""
    port, metrics_port = free_port(), free_port()
    asked = f"{port}/healthz" if command == "serve" else f"{metrics_port}/metrics"
    return Running(
        f"crossfade-{command}-{port}",
        # -P: without it, modules of the current folder would come before the checkout's.
        [
            python_of(checkout),
            "-P",
            "-c",
            "from compose.cli import main; main()",
            command,
            *options,
        ],
        folder,
        {
            "PORT": str(port),
            "METRICS_PORT": str(metrics_port),
            "PYTHONPATH": str(checkout),
            **environment,
        },
        port=port,
        metrics_port=metrics_port,
        ready=f"http://127.0.0.1:{asked}",
    ).measured()


def uvicorn_app(
    app: str, folder: Path, environment: dict[str, str]
) -> AbstractAsyncContextManager[Running]:
    """Run an ASGI app on uvicorn's fastest setup: uvloop, httptools, no access log, one process."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", app, "--port", str(port), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    return Running(
        app.replace(":", "-"),
        command,
        folder,
        environment,
        port=port,
        ready=f"http://127.0.0.1:{port}/",
    ).measured()


@asynccontextmanager
async def go_service(folder: Path, environment: dict[str, str]) -> AsyncIterator[Running]:
    """Build the Go service and run it.

    Raises:
        RuntimeError: this machine has no Go, or the build failed.
    """
    program = ROOT / "build" / "bench" / "go-service"
    if shutil.which("go") is None:
        raise RuntimeError("the Go service can't be measured: there is no go on the PATH")
    source = Path(__file__).parent / "baselines" / "go"
    building = await asyncio.create_subprocess_exec(
        "go", "build", "-o", str(program), ".", cwd=source
    )
    if await building.wait():
        raise RuntimeError(f"{source} does not build")
    port = free_port()
    environment = {**environment, "PORT": str(port)}
    ready = f"http://127.0.0.1:{port}/"
    service = Running("go", [str(program)], folder, environment, port=port, ready=ready)
    async with service.measured():
        yield service


async def load(job: Job) -> Result:
    """Run a load generator in a process of its own."""
    answer = await program("lab.bench.load", msgspec.json.encode(job))
    return msgspec.json.decode(answer, type=Result)


async def program(
    module: str, given: bytes = b"", environment: dict[str, str] | None = None
) -> bytes:
    """Run ``python -m module`` to its end; return its standard output.

    Args:
        module: The dotted name.
        given: The standard input.
        environment: Variables in addition to the benchmark's own.

    Raises:
        RuntimeError: the program failed.
    """
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


def dumps(value: object) -> bytes:
    """Return JSON bytes for a child's standard input."""
    return json.dumps(value).encode()
