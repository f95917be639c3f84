"""``crossfade serve`` and ``crossfade worker``: one process of the service, or several."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import structlog

from compose.commands.options.layout import Processes, Workers, layout_of
from compose.output import client_settings, fail, joined, must_still_run, run, settings_or_exit
from compose.process.role import Role
from compose.process.service_manager import ServiceManager
from compose.process.signals import Interrupted, Signals
from compose.settings import Settings
from compose.supervisor.listeners import Listeners
from compose.supervisor.shutdown import longest_stop
from compose.supervisor.supervisor import Layout, StartFailedError, Supervisor
from otel.logging import configure
from persistence.errors import Outage

__all__ = ["serve", "worker"]

log = structlog.get_logger(__name__)

_LOOK_EVERY = 1.0  # seconds


def serve(*, processes: Processes = None, workers: Workers = 0) -> None:
    """Run the API and workers, until SIGTERM or Ctrl-C.

    With ENABLE_STREAM_CONSUMERS=false it runs no workers. With --processes or --workers a
    supervisor runs several processes on one port, and restarts each that dies; SIGHUP replaces them
    one by one without refusing a connection.
    """
    settings = settings_or_exit()
    layout = layout_of(processes, workers)
    if layout is None:
        run(lambda: _run(settings, Role.SERVE))
    else:
        run(lambda: _supervise(settings, layout))


def worker() -> None:
    """Run workers without an API.

    Any number of processes share the partitions.
    """
    settings = client_settings(needed=False)
    run(lambda: _run(settings, Role.WORKER))


async def _supervise(settings: Settings, layout: Layout) -> None:
    """Run the service in several processes, with a supervisor in this one, until a stop."""
    configure(settings.otel)
    signals = Signals()
    signals.install()
    reload = signals.reload_by_hangup()
    manager = ServiceManager()
    supervisor = Supervisor(
        layout,
        Listeners(settings.ingress.host, settings.ingress.port, layout.processes),
        stop_seconds=longest_stop(settings.process),
        manager=manager,
    )
    signals.forced = supervisor.kill
    watcher = asyncio.create_task(manager.watch(signals.stop))
    log.info("Starting", layout=str(layout))
    try:
        with suppress(Interrupted):
            await signals.unless_stopped(supervisor.start())
            log.info("Started", layout=str(layout))
            manager.ready(str(layout))
            await supervisor.run(signals.stop, reload)
    except StartFailedError as error:
        fail(str(error), status=error.status)
    finally:
        log.info("Stopping", layout=str(layout))
        await supervisor.stop()
        watcher.cancel()
        log.info("Stopped")


async def _run(settings: Settings, role: Role) -> None:
    gc.disable()  # until the process has started, which makes almost no garbage
    # FastAPI takes half a second to import, and other commands don't need it.
    from compose.process.serve import run as run_process  # noqa: PLC0415

    signals = Signals()
    signals.install()
    manager = ServiceManager()
    watcher = asyncio.create_task(_while_it_runs(signals.stop))
    heartbeat = asyncio.create_task(manager.watch(signals.stop))
    try:
        await run_process(
            settings, role, signals.stop, started=lambda running: manager.ready(running.url)
        )
        if watcher.done():
            watcher.result()
    finally:
        watcher.cancel()
        heartbeat.cancel()


async def _while_it_runs(stop: asyncio.Event) -> None:
    """Set ``stop`` when the ``crossfade up`` that this worker joined has stopped.

    If it went on, it would read the log of the next server on the same ports.

    Raises:
        Outage: that ``crossfade up`` has stopped.
    """
    while joined():
        try:
            must_still_run()
        except Outage:
            stop.set()
            raise
        await asyncio.sleep(_LOOK_EVERY)
