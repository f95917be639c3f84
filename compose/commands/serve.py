"""``crossfade serve`` and ``crossfade worker``: one process of the service."""

from __future__ import annotations

import asyncio

from compose.output import client_settings, joined, must_still_run, run, settings_or_exit
from compose.process.role import Role
from compose.process.signals import Signals
from compose.settings import Settings
from persistence.errors import Outage

__all__ = ["serve", "worker"]

_LOOK_EVERY = 1.0  # seconds


def serve() -> None:
    """Run the API and workers, until SIGTERM or Ctrl-C.

    ENABLE_STREAM_CONSUMERS=false leaves the workers out.
    """
    settings = settings_or_exit()
    run(lambda: _run(settings, Role.SERVE))


def worker() -> None:
    """Run workers without an API.

    Any number of processes share the partitions.
    """
    settings = client_settings(needed=False)
    run(lambda: _run(settings, Role.WORKER))


async def _run(settings: Settings, role: Role) -> None:
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
