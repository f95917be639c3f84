"""Run one process of the service until it is asked to stop, then stop it in order."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from compose.local.ports import pick
from compose.process import http_server, open_files, settings_warnings
from compose.process.heap import return_large_buffers
from compose.process.heartbeat import heartbeat_of
from compose.process.listening_socket import bind
from compose.process.readers import Readers
from compose.process.role import Role
from compose.process.scrape_targets import Targets
from compose.process.tasks import Tasks
from compose.process.wiring import PRIVATE_ERRORS, Service, service
from compose.settings import Settings
from otel import metrics_server
from otel.lag_reporter import LagReporter
from otel.logging import configure
from otel.runtime import LoopDelay, observe_process
from otel.settings import OtelSettings
from persistence.fleet.heartbeat import Heartbeat
from transport.errors import ConfigurationError

__all__ = ["Running", "run"]

log = structlog.get_logger(__name__)

_YOUNG_OBJECTS = 20_000
_FLUSH_SECONDS = 5.0  # after the last request, the application's lifespan flushes what it holds


class Running(NamedTuple):
    """Where a started process can be reached."""

    url: str
    metrics_url: str
    service: Service


def _to_standard_error(settings: OtelSettings) -> None:
    configure(settings, private_errors=PRIVATE_ERRORS)


async def run(
    settings: Settings,
    role: Role,
    stop: asyncio.Event,
    *,
    started: Callable[[Running], None] = lambda _: None,
    logging: Callable[[OtelSettings], None] = _to_standard_error,
    bound: socket.socket | None = None,
    supervised: bool = False,
) -> None:
    """Run until ``stop`` is set; return when everything is handed back and closed.

    The order: readiness says no; the API ends its requests and flushes; standbys, and then workers,
    end their batches and hand back their partitions; metrics go last.

    Args:
        settings: Of the process.
        role: Its parts.
        stop: Ends it.
        started: Called once it serves.
        logging: Sets up where the process logs.
        bound: Where the API is served; by default on HOST and PORT.
        supervised: Whether others run beside it, which take ports for their metrics too.

    Raises:
        ConfigurationError: a setting can't work (the port is taken, the log disagrees).
    """
    logging(settings.otel)
    settings_warnings.warn(settings.transport)
    open_files.raise_limit()
    return_large_buffers()
    host, port = settings.ingress.host, settings.ingress.port
    if bound is not None:
        port = bound.getsockname()[1]
    elif role is Role.WORKER:  # several have to fit on one host
        port = pick(port, host)
    bound = bound or bind(host, port)
    try:
        async with service(settings, role) as parts:
            _calm_collector()
            metrics = parts.context.metrics
            observe_process(metrics)
            targets = Targets(parts.context.pool)
            with metrics_server.serve(
                metrics,
                settings.otel.metrics_host,
                settings.otel.metrics_port,
                targets=targets.answer,
                connections=settings.otel.metrics_max_connections,
                seconds=settings.otel.metrics_timeout_ms / 1000,
                several=supervised,
            ) as exposed:
                running = Running(f"http://{_shown(host)}:{port}", exposed.url, parts)
                heartbeat = heartbeat_of(
                    role, parts, url=running.url, metrics_url=running.metrics_url
                )
                log.info("Starting", role=role.value, url=running.url, metrics=exposed.url)
                # Before it appends: what it appends is newer than what the log may have lost.
                await asyncio.gather(parts.identities.ask(), parts.ends.exchange())
                try:
                    if parts.payload_gate is not None:
                        await parts.payload_gate.begin()
                    await heartbeat.beat()  # seen before it takes a request, where that is possible
                    if parts.payload_identity is not None:
                        await parts.payload_identity.begin()
                    if parts.payload_gate is not None:
                        await parts.payload_gate.begin()  # of two that start at once, again
                    process = _Process(parts, heartbeat, targets, role)
                    await process.run(bound, stop, partial(started, running))
                except ConfigurationError:
                    await heartbeat.leave()  # a log was retired, or others disagree
                    raise
    finally:
        bound.close()
    log.info("Stopped")


def _calm_collector() -> None:
    """Look for cycles less often, and never among what lives as long as the process.

    Nearly everything a message allocates is freed by its count. The default (every 700 objects)
    walks the requests in flight some hundred times a second for nothing.

    What is garbage by now is half a megabyte, and is kept too: looking for it among all that is
    imported would be a tenth of the start.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


class _Process:
    """The tasks of a process, and the order in which they end."""

    def __init__(self, parts: Service, heartbeat: Heartbeat, targets: Targets, role: Role) -> None:
        self._settings = parts.context.settings.process
        # No load balancer sends a worker anything.
        self._delay = 0.0 if role is Role.WORKER else self._settings.shutdown_delay_seconds
        self._parts = parts
        self._heartbeat = heartbeat
        self._targets = targets
        self._http_stop = asyncio.Event()
        self._observers_stop = asyncio.Event()

    async def run(
        self, bound: socket.socket, stop: asyncio.Event, started: Callable[[], None]
    ) -> None:
        """Run until ``stop`` is set or a part fails; either way end in order."""
        parts, tasks = self._parts, Tasks()
        context = parts.context
        grace = self._settings.shutdown_grace_seconds / 2  # half for requests, half for workers
        http = http_server.serve(
            parts.app, bound, self._http_stop, grace_seconds=max(1, int(grace)), started=started
        )
        api = [tasks.add("http", http)]
        readers = Readers(parts.consumers, tasks) if parts.consumers else None
        if readers:
            readers.start()
        observers = [
            tasks.add("loop delay", LoopDelay(context.metrics).run(self._observers_stop)),
            tasks.add("dead letter depth", parts.depth.run(self._observers_stop)),
            tasks.add("housekeeping", parts.housekeeper.run(self._observers_stop)),
            tasks.add("log identities", parts.identities.run(self._observers_stop)),
            tasks.add("log ends", parts.ends.run(self._observers_stop)),
            tasks.add("metrics targets", self._targets.run(self._observers_stop)),
            # Ends after the workers: a process without a heartbeat is taken for stopped.
            tasks.add("heartbeat", self._heartbeat.run(self._observers_stop)),
        ]
        advice = settings_warnings.warn_of_database(context.pool, self._observers_stop)
        tasks.add("database settings", advice, may_return=True)
        if parts.payload_gate:
            gate = parts.payload_gate.run(self._observers_stop)
            observers.append(tasks.add("payload gate", gate))
        if parts.payload_identity:
            looking = parts.payload_identity.run(self._observers_stop)
            observers.append(tasks.add("payload identity", looking))
        if parts.old_rows:
            observers.append(tasks.add("old rows", parts.old_rows.run(self._observers_stop)))
        if parts.parity:
            observers.append(tasks.add("parity", parts.parity.run(self._observers_stop)))
        for transport in parts.logs.every:
            lag = LagReporter(transport, context.metrics, losses=context.losses)
            observers.append(tasks.add(f"lag {transport.name}", lag.run(self._observers_stop)))
            tasks.add(f"connect {transport.name}", transport.connect(), may_return=True)
        try:
            await tasks.until(stop)
        finally:
            log.info("Stopping")
            parts.app.drain()
            if stop.is_set():
                await asyncio.sleep(self._delay)
            self._http_stop.set()
            await tasks.end(api, within=grace + _FLUSH_SECONDS)
            if readers:
                await readers.end(within=grace)
            self._observers_stop.set()
            await tasks.end(observers, within=1)
            await tasks.cancel_all()


def _shown(host: str) -> str:
    return "localhost" if host in {"127.0.0.1", "::1", "0.0.0.0", "::"} else host  # noqa: S104
