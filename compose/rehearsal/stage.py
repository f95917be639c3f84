"""Everything that runs in a rehearsal: three real servers, and processes of ours beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from compose.harness.service import RehearsedService
from compose.local.binaries import find_redis
from compose.local.kafka import KafkaServer
from compose.local.postgres import PostgresServer
from compose.local.server import all_started
from compose.local.valkey import ValkeyServer
from compose.rehearsal.options import Options
from compose.rehearsal.part import Part
from compose.rehearsal.timeline import RehearsalTimeline
from persistence.fleet.log_choice import choices
from persistence.migrate import upgrade
from transport.settings import TransportSettings

__all__ = ["Stage"]

_DATABASE = "rehearsal"
_SETTINGS = {
    # Short, so that little of a rehearsal is spent waiting for a partition to change hands.
    "STREAM_LEASE_MS": "2000",
    "STREAM_POLL_INTERVAL_MS": "1000",
    "INGRESS_MAX_WAIT_MS": "1000",
    "KAFKA_TIMEOUT_MS": "1500",
    "REDIS_TIMEOUT_MS": "1500",
    "TRANSPORT_SHADOW_TIMEOUT_MS": "1500",
    # Copies are there in milliseconds, and unrepaired gaps have a gate of their own.
    "TRANSPORT_SHADOW_SETTLE_MS": "2000",
    # The checker reads both logs from their beginnings.
    "STREAM_RETENTION_SECONDS": "86400",
    "STREAM_RETENTION_RECORDS": "100000000",
    "LOG_FORMAT": "json",
}


class Stage:
    """The servers and processes of a rehearsal. The load is sent to ``ingresses``.

    Args:
        folder: For data and logs.
        options: How many processes there are.
        timeline: Gets the states of all parts.
        service: Starts a process.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        timeline: RehearsalTimeline,
        service: type[RehearsedService],
    ) -> None:
        self.folder = folder
        self._make = service
        self._pair = options.pair
        self._timeline = timeline
        self.redis = ValkeyServer(folder / "redis" / "data", binary=find_redis())
        self.kafka = KafkaServer(folder / "kafka" / "data")
        self.postgres = PostgresServer(folder / "postgres" / "data")
        self.servers = [
            Part(self.redis, "redis", timeline, "redis"),
            Part(self.kafka, "kafka", timeline, "kafka"),
            Part(self.postgres, "postgres", timeline, "postgres"),
        ]
        # With no workers of their own, the processes that accept persist as well.
        self._consuming = "true" if options.workers == 0 else "false"
        self.ingresses = [self._service("serve", n + 1) for n in range(options.ingresses)]
        self.workers = [self._service("worker", n + 1) for n in range(options.workers)]
        self.processes = [
            *(Part(ingress, "ingress", timeline) for ingress in self.ingresses),
            *(Part(worker, "worker", timeline) for worker in self.workers),
        ]
        self._services = {service.name: service for service in (*self.ingresses, *self.workers)}

    @property
    def parts(self) -> list[Part]:
        """Every process and server."""
        return [*self.processes, *self.servers]

    @property
    def database_url(self) -> str:
        """The service's own database."""
        return self.postgres.url_of(_DATABASE)

    def transport_settings(self) -> TransportSettings:
        """Return the settings for transports in the rehearsal's own process."""
        ours = self._environment(0)
        fields = TransportSettings.model_fields
        given = {k.lower(): v for k, v in ours.items() if v and k.lower() in fields}
        return TransportSettings(**given)  # type: ignore[arg-type]  # text, as in an environment

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the servers and, on phase 0, the processes; end all of them with the block."""
        async with AsyncExitStack() as stack:
            for server in self.servers:
                stack.push_async_callback(server.stop)
            await all_started(server.start() for server in self.servers)
            await upgrade(await self.postgres.create_database(_DATABASE))
            stack.push_async_callback(self._stop_processes)
            for part in self.processes:
                self._set_phase(part, 0)
            await all_started(part.start(0) for part in self.processes)
            yield

    async def restart(self, part: Part, phase: int) -> None:
        """Restart one process with the settings of ``phase``."""
        async with part.held():
            await part.stop()
            self._set_phase(part, phase)
            await part.start(phase)

    def phase_of(self, part: Part) -> int | None:
        """Return the phase that a process runs; a server has none."""
        service = self._services.get(part.name)
        return service.phase if service else None

    def _set_phase(self, part: Part, phase: int) -> None:
        service = self._services[part.name]
        service.environment.update(self._environment(phase))
        service.phase = phase

    async def _stop_processes(self) -> None:
        await asyncio.gather(*(part.stop() for part in self.processes))

    def _service(self, command: Literal["serve", "worker"], number: int) -> RehearsedService:
        name = f"{'ingress' if command == 'serve' else 'worker'}-{number}"
        consumers = {"ENABLE_STREAM_CONSUMERS": self._consuming} if command == "serve" else {}
        folder = self.folder / "processes"
        folder.mkdir(parents=True, exist_ok=True)
        return self._make(name, command, folder, consumers)

    def _environment(self, phase: int) -> dict[str, str]:
        return {
            **_SETTINGS,
            **choices(self._pair)[phase].environment(),
            "DATABASE_URL": self.database_url,
            "REDIS_HOST": self.redis.host,
            "REDIS_PORT": str(self.redis.port),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
        }
