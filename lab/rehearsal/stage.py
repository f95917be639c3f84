"""The servers of a rehearsal, and the service's processes that use them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from compose.local.binaries import find_redis
from compose.local.kafka import KafkaServer
from compose.local.postgres import PostgresServer
from compose.local.seaweed import SeaweedServer
from compose.local.server import all_started
from compose.local.valkey import ValkeyServer
from compose.settings import ProcessSettings, load
from lab.harness.proxy import ProxyServer
from lab.harness.service import RehearsedService
from lab.rehearsal.options import Options
from lab.rehearsal.part import Part
from lab.rehearsal.timeline import RehearsalTimeline
from persistence.fleet.log_choice import choices
from persistence.migrate import upgrade
from transport.settings import TransportSettings

__all__ = ["Stage", "place_of"]

_DATABASE = "rehearsal"
_PAYLOADS = "payloads"
_DELAY_SECONDS: float = ProcessSettings.model_fields["shutdown_delay_seconds"].default
_SETTINGS = {
    "STREAM_POLL_INTERVAL_MS": "1000",
    # Copies arrive within milliseconds, and unrepaired gaps have a gate of their own.
    "TRANSPORT_SHADOW_SETTLE_MS": "2000",
    # The checker reads both logs from their beginnings.
    "STREAM_RETENTION_SECONDS": "86400",
    "STREAM_RETENTION_RECORDS": "100000000",
    "LOG_FORMAT": "json",
}
# Keeps the commit time of each row, from which the report computes its delay.
_POSTGRES = {"track_commit_timestamp": "on"}
# With faults: short limits, so that the service recovers soon after an outage. Without faults the
# defaults stay: a busy machine would exceed these limits, and cause the answers "outcome unknown".
_IMPATIENT = {
    "INGRESS_MAX_WAIT_MS": "1000",
    "KAFKA_TIMEOUT_MS": "1500",
    "REDIS_TIMEOUT_MS": "1500",
    "TRANSPORT_SHADOW_TIMEOUT_MS": "1500",
    # Twice the others: an upload of a megabyte must succeed on a busy machine too. If not, every
    # large message is refused and retried, which keeps the machine busy.
    "PAYLOAD_TIMEOUT_MS": "3000",
}


class Stage:
    """The servers and processes of a rehearsal. The load goes to ``ingresses``.

    Args:
        folder: The folder for data and logs.
        options: The options of the rehearsal, such as the number of processes.
        timeline: Gets the states of all parts.
        service: The class of the service's processes.
        settings: Override the settings of a rehearsal, by variable name.
        configuration: Settings of the brokers, by product: ``redis``, ``kafka``.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        timeline: RehearsalTimeline,
        service: type[RehearsedService],
        *,
        settings: Mapping[str, str] | None = None,
        configuration: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.folder = folder
        self._settings = settings or {}
        self._make = service
        self._pair = options.pair
        self._limits = _IMPATIENT if options.faults else {}
        self._timeline = timeline
        self._logs = {
            place: _server(place, folder, configuration or {})
            for place in dict.fromkeys(map(place_of, options.pair.names))
        }
        self.postgres = PostgresServer(folder / "postgres" / "data", config=_POSTGRES)
        self.servers = [
            *(Part(server, place, timeline, place) for place, server in self._logs.items()),
            Part(self.postgres, "postgres", timeline, "postgres"),
        ]
        self._s3 = SeaweedServer(folder / "s3") if options.large and options.s3 else None
        if self._s3 is not None:
            self.servers.append(Part(self._s3, "s3", timeline, "s3"))
        self._has_payloads = options.large > 0
        # Without worker processes, the ingresses persist as well.
        self._consuming = "true" if options.workers == 0 else "false"
        self.ingresses = [self._service("serve", n + 1) for n in range(options.ingresses)]
        self.workers = [self._service("worker", n + 1) for n in range(options.workers)]
        self.processes = [
            *(Part(ingress, "ingress", timeline) for ingress in self.ingresses),
            *(Part(worker, "worker", timeline) for worker in self.workers),
        ]
        self.proxy = (
            ProxyServer(
                options.proxy, folder / "proxy", [ingress.port for ingress in self.ingresses]
            )
            if options.proxy
            else None
        )
        self._services = {service.name: service for service in (*self.ingresses, *self.workers)}

    @property
    def parts(self) -> list[Part]:
        """All processes and servers."""
        return [*self.processes, *self.servers]

    @property
    def folders(self) -> Mapping[str, Path]:
        """The data folders of the brokers and of PostgreSQL, by name."""
        servers = {**self._logs, "postgres": self.postgres}
        return {name: server.data_dir for name, server in servers.items()}

    @property
    def database_url(self) -> str:
        """The URL of the service's database."""
        return self.postgres.url_of(_DATABASE)

    @property
    def reader_url(self) -> str:
        """The URL of an ingress to read messages from; one that is up, if there is one."""
        up = [ingress for ingress in self.ingresses if ingress.up and ingress.running]
        return (up or self.ingresses)[0].url

    def transport_settings(self) -> TransportSettings:
        """Return the settings for transports in the rehearsal's own process."""
        ours = {name: value for name, value in self._environment(0).items() if value}
        return load(ours, env_file=Path(os.devnull)).transport

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the servers, and the processes in phase 0; stop all of them when the block ends."""
        async with AsyncExitStack() as stack:
            for server in self.servers:
                stack.push_async_callback(server.stop)
            await all_started(server.start() for server in self.servers)
            await upgrade(await self.postgres.create_database(_DATABASE))
            stack.push_async_callback(self._stop_processes)
            for part in self.processes:
                self._set_phase(part, 0)
            await all_started(part.start(0) for part in self.processes)
            if self.proxy is not None:
                await stack.enter_async_context(self.proxy)
            yield

    async def restart(self, part: Part, phase: int) -> None:
        """Restart one process with the settings of ``phase``."""
        async with part.held():
            await part.stop()
            self._set_phase(part, phase)
            await part.start(phase)
            service = self._services[part.name]
            if self.proxy is not None and service in self.ingresses:
                await self.proxy.sends_to(service.port)

    def phase_of(self, part: Part) -> int | None:
        """Return the phase that a process runs; ``None`` for a server."""
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
        return self._make(name, command, folder, consumers | _compiled(self.folder))

    def _environment(self, phase: int) -> dict[str, str]:
        return {
            **_SETTINGS,
            **self._limits,
            **self._settings,
            # Only a proxy needs the delay: other clients know in advance that an ingress stops.
            "SHUTDOWN_DELAY_SECONDS": str(_DELAY_SECONDS if self.proxy else 0.0),
            **choices(self._pair)[phase].environment(),
            # The settings of a labelled log must be valid in phases that don't use the log, too.
            "OTHER_LOGS": ",".join(name for name in self._pair.names if "." in name),
            "DATABASE_URL": self.database_url,
            **self._payloads(),
            **{
                name: value
                for place, server in self._logs.items()
                for name, value in _addresses(place, server).items()
            },
        }

    def _payloads(self) -> dict[str, str]:
        if self._s3 is not None:
            return self._s3.settings(_PAYLOADS)
        if not self._has_payloads:
            return {}
        return {"PAYLOAD_STORE": (self.folder / _PAYLOADS).resolve().as_uri()}


def _compiled(folder: Path) -> dict[str, str]:
    """Return variables that let processes cache compiled modules, as an installation does.

    Without the cache each start would compile all modules, which takes a quarter of its CPU time,
    while other processes serve requests.
    """
    if not sys.dont_write_bytecode:
        return {}
    where = str(folder.resolve() / "bytecode")
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": where}


def place_of(log: str) -> str:
    """Return the server of a log: its kind, and its label if it has one."""
    return log.partition("@")[0]


def _server(
    place: str, folder: Path, configuration: Mapping[str, Mapping[str, str]]
) -> ValkeyServer | KafkaServer:
    kind = place.partition(".")[0]
    data, config = folder / place / "data", configuration.get(kind)
    if kind == "kafka":
        return KafkaServer(data, config=config)
    return ValkeyServer(data, binary=find_redis(), config=config)


def _addresses(place: str, server: ValkeyServer | KafkaServer) -> dict[str, str]:
    label = place.partition(".")[2].upper()
    before = f"LOG_{label}_" if label else ""
    if isinstance(server, KafkaServer):
        return {f"{before}KAFKA_BOOTSTRAP_SERVERS": server.bootstrap}
    return {f"{before}REDIS_HOST": server.host, f"{before}REDIS_PORT": str(server.port)}
