"""One real ``crossfade`` process: started, stopped, killed, suspended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from compose.local.ports import free_port
from compose.local.server import LocalServer
from lab.harness.waiting import wait_until
from lab.load.client import Client

__all__ = ["RehearsedService"]

_COMMAND = [sys.executable, "-c", "from compose.cli import main; main()"]


class RehearsedService(LocalServer):
    """``crossfade serve`` or ``crossfade worker``; keeps its ports across restarts.

    Args:
        name: Its name in the report and in the names of its files.
        command: Which of the two.
        folder: The folder for its log; also its working directory.
        environment: Its settings, by variable name.
    """

    def __init__(
        self,
        name: str,
        command: Literal["serve", "worker"],
        folder: Path,
        environment: dict[str, str],
    ) -> None:
        super().__init__(
            name,
            folder / name,
            port=free_port(),
            grace=20.0,
            environment=environment,
            folder=folder,  # has no .env file
        )
        self.up = False
        """Whether clients should use it: false from before it is stopped until it is up again."""
        self.phase: int | None = None
        self.metrics_port = free_port()
        self._service = command

    @property
    def url(self) -> str:
        """The URL of its API (``serve`` only)."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, **environment: str) -> None:
        """Start the process; return once it takes requests.

        Args:
            **environment: Changes of its settings, which later starts keep.
        """
        ours = {
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "SHUTDOWN_DELAY_SECONDS": "0",  # the delay is for proxies; by default there is none
        }
        self.environment.update({**ours, **self.environment, **environment})
        await super().start()
        self.up = True

    async def stop(self) -> None:
        """Send SIGTERM, and wait until the process has drained and ended."""
        self.up = False
        await super().stop()

    async def kill(self) -> None:
        """Send SIGKILL. Clients notice it by their broken connections."""
        await super().kill()
        self.up = False

    async def restart(self, **environment: str) -> None:
        """Stop the process in good order, and start it with changed settings."""
        await self.stop()
        await self.start(**environment)

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        text = await self._get(self.metrics_port, "/metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((f"{name}{{", f"{name} ")) and all(w in line for w in wanted)
        )

    async def owns(self) -> float:
        """Return the number of partitions that it owns, by its own metrics."""
        return await self.metric("stream_partition_owned")

    async def owns_eventually(self, at_least: int = 1, within: float = 20.0) -> None:
        """Wait until it owns this many partitions.

        Raises:
            StuckError: it does not own them within ``within`` seconds.
        """

        async def enough() -> bool:
            return await self.owns() >= at_least

        await wait_until(
            enough,
            within=within,
            otherwise=lambda: f"{self.name} owns fewer than {at_least} partitions",
            every=0.1,
        )

    async def _get(self, port: int, path: str) -> str:
        client = Client()
        try:
            return (await client.get(f"http://127.0.0.1:{port}{path}")).text
        finally:
            await client.close()

    def _command(self) -> list[str]:
        return [*_COMMAND, self._service]

    async def _is_ready(self) -> bool:
        port, path = (
            (self.port, "/healthz") if self._service == "serve" else (self.metrics_port, "/metrics")
        )
        try:
            return bool(await self._get(port, path))
        except ConnectionError:
            return False
