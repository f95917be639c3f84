"""A process that a supervisor runs: ``python -m compose.supervisor.child NAME ROLE LIFELINE ...``.

``LIFELINE`` and, for a process that accepts, ``LISTENER`` are file descriptors that it inherits.
The settings are in the environment.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import structlog

from compose.local.os_errors import explained
from compose.output import fail, run
from compose.process.role import Role
from compose.process.serve import Running
from compose.process.serve import run as run_process
from compose.process.signals import Signals
from compose.settings import Settings, SettingsError, load
from compose.supervisor.lifeline import Addresses, Lifeline
from compose.supervisor.shutdown import longest_stop

log = structlog.get_logger(__name__)

_BAD_SETTINGS = 2


def main(name: str, role: Role, lifeline: Lifeline, listener: socket.socket | None) -> None:
    """Run until SIGTERM or SIGHUP, or until the supervisor ends."""
    structlog.contextvars.bind_contextvars(process=name)
    try:
        settings = load()
    except SettingsError as error:
        fail(*error.problems, status=_BAD_SETTINGS)
    try:
        run(lambda: _run(settings, role, lifeline, listener))
    except Exception as error:
        if isinstance(error, OSError) and (told := explained(error)):
            fail(told)
        log.exception("Failed: unhandled exception")
        sys.exit(1)


async def _run(
    settings: Settings, role: Role, lifeline: Lifeline, listener: socket.socket | None
) -> None:
    signals = Signals()
    signals.install()
    replaced = signals.replaced_by_hangup()

    def orphaned() -> None:
        log.error("The supervisor is gone: stopping")
        signals.stop.set()

    def started(running: Running) -> None:
        lifeline.ready(Addresses(running.url, running.metrics_url))

    lifeline.watch(orphaned, within=longest_stop(settings.process))
    beating = asyncio.create_task(lifeline.run())
    try:
        await run_process(
            settings,
            role,
            signals.stop,
            started=started,
            bound=listener,
            supervised=True,
            replaced=replaced.is_set,
        )
    finally:
        beating.cancel()


if __name__ == "__main__":
    _name, _role, *_descriptors = sys.argv[1:]
    _lifeline, *_listener = map(int, _descriptors)
    main(
        _name,
        Role(_role),
        Lifeline(_lifeline),
        socket.socket(fileno=_listener[0]) if _listener else None,
    )
