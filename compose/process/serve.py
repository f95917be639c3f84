"""Run one process of the service until it is asked to stop, then stop it in order."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import socket
from collections.abc import Callable
from contextlib import suppress
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
_FLUSH_SECONDS = 5.0  # for the application's lifespan, which flushes after the last request


class Running(NamedTuple):
    """The addresses and parts of a started process."""

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
    replaced: Callable[[], bool] = lambda: False,
) -> None:
    """Run until ``stop`` is set; return when all partitions are given up and everything is closed.

    The order of the stop: readiness answers "not ready"; the API finishes its requests and
    flushes; the readers of logs finish their batches and give up their partitions; the metrics
    server closes last.

    Args:
        settings: The settings of the process.
        role: Decides which parts the process has.
        stop: Ends the process.
        started: Called once the process serves requests.
        logging: Sets up where the process logs.
        bound: The API's socket; by default one on HOST and PORT.
        supervised: Whether further processes run beside this one, and need metrics ports too.
        replaced: Returns whether another process serves the same address by now. Then readiness
            stays as it is during the stop.

    Raises:
        ConfigurationError: a setting can't work (the port is taken, the log disagrees).
    """
    logging(settings.otel)
    settings_warnings.warn(settings.transport)
    _dump_stacks_when_aborted()
    open_files.raise_limit()
    return_large_buffers()
    host, port = settings.ingress.host, settings.ingress.port
    if bound is not None:
        port = bound.getsockname()[1]
    elif role is Role.WORKER:  # several workers can run on one host
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
                # Before the first append: new records would hide that the log lost older ones.
                await asyncio.gather(parts.identities.ask(), parts.ends.exchange())
                try:
                    if parts.payload_gate is not None:
                        await parts.payload_gate.begin()
                    await heartbeat.beat()  # others see this process before it takes a request
                    if parts.payload_identity is not None:
                        await parts.payload_identity.begin()
                    if parts.payload_gate is not None:
                        await parts.payload_gate.begin()  # another may have started meanwhile
                    process = _Process(parts, heartbeat, targets, role, replaced)
                    await process.run(bound, stop, partial(started, running))
                except ConfigurationError:
                    await heartbeat.leave()  # a log was retired, or others disagree
                    raise
    finally:
        bound.close()
    log.info("Stopped")


def _dump_stacks_when_aborted() -> None:
    """Have SIGABRT write the stack of each thread: it ends a process that hangs."""
    # Standard error may be replaced by something that is no file.
    with suppress(AttributeError, OSError, RuntimeError, ValueError):
        faulthandler.enable()


def _calm_collector() -> None:
    """Run the garbage collector less often, and never on objects from before this call.

    Nearly every object of a message is freed by its reference count. With the default threshold
    (700 objects), the collector would walk the requests in flight some hundred times a second and
    find nothing.

    Garbage from the start, about half a megabyte, is kept too: a collection over all imported
    modules would take a tenth of the start time.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


class _Process:
    """The tasks of a process, and the order in which they end."""

    def __init__(
        self,
        parts: Service,
        heartbeat: Heartbeat,
        targets: Targets,
        role: Role,
        replaced: Callable[[], bool],
    ) -> None:
        self._settings = parts.context.settings.process
        # Load balancers send no requests to a worker, so it need not wait for them.
        self._delay = 0.0 if role is Role.WORKER else self._settings.shutdown_delay_seconds
        self._parts = parts
        self._heartbeat = heartbeat
        self._targets = targets
        self._replaced = replaced
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
            tasks.add("altered logs", parts.altered.run(self._observers_stop)),
            tasks.add("log ends", parts.ends.run(self._observers_stop)),
            tasks.add("certificates", parts.certificates.run(self._observers_stop)),
            tasks.add("metrics targets", self._targets.run(self._observers_stop)),
            # Ends after the workers: others take a process without a heartbeat for stopped.
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
            parts.app.drain(ready=self._replaced())
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
    """Return the host as a URL has it. ``localhost`` may be no name of ::1."""
    if host in {"127.0.0.1", "0.0.0.0", "::"}:  # noqa: S104
        return "localhost"
    return f"[{host}]" if ":" in host else host
