"""``crossfade serve`` and ``crossfade worker``: one process of the service, or several."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import structlog

from compose.commands.layout import Processes, Workers, layout_of
from compose.output import client_settings, fail, joined, must_still_run, run, settings_or_exit
from compose.process.role import Role
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

    ENABLE_STREAM_CONSUMERS=false leaves the workers out. With --processes or --workers a
    supervisor runs several processes on one port and starts another for each that dies; SIGHUP
    replaces them one by one, and refuses no connection.
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
    """Run a supervisor until a stop is asked for. Its processes do the work."""
    configure(settings.otel)
    signals = Signals()
    signals.install()
    reload = signals.reload_by_hangup()
    supervisor = Supervisor(
        layout,
        Listeners(settings.ingress.host, settings.ingress.port, layout.processes),
        stop_seconds=longest_stop(settings.process),
    )
    signals.forced = supervisor.kill
    log.info("Starting", layout=str(layout))
    try:
        with suppress(Interrupted):
            await signals.unless_stopped(supervisor.start())
            log.info("Started", layout=str(layout))
            await supervisor.run(signals.stop, reload)
    except StartFailedError as error:
        fail(str(error), status=error.status)
    finally:
        log.info("Stopping", layout=str(layout))
        await supervisor.stop()
        log.info("Stopped")


async def _run(settings: Settings, role: Role) -> None:
    gc.disable()  # until the process is put together, which makes next to no garbage
    # FastAPI takes half a second to import: other commands do without.
    from compose.process.serve import run as run_process  # noqa: PLC0415

    signals = Signals()
    signals.install()
    watcher = asyncio.create_task(_while_it_runs(signals.stop))
    try:
        await run_process(settings, role, signals.stop)
        if watcher.done():
            watcher.result()
    finally:
        watcher.cancel()


async def _while_it_runs(stop: asyncio.Event) -> None:
    """Ask for a stop when the ``crossfade up`` that was joined is stopped.

    A process that stayed would read the log of the next one on its ports.

    Raises:
        Outage: it is stopped.
    """
    while joined():
        try:
            must_still_run()
        except Outage:
            stop.set()
            raise
        await asyncio.sleep(_LOOK_EVERY)
