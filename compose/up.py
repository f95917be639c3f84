"""Everything on this machine, on real servers, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from compose.console import err, settings_or_exit, warn
from compose.local import run_file
from compose.local.folder import Folder
from compose.local.ports import pick
from compose.local.stack import Stack, logs_in
from compose.role import Role
from compose.serve import Running
from compose.serve import run as run_process
from compose.settings import Settings, unseen
from compose.signals import Interrupted, Signals
from compose.terminal import styled
from compose.up_panel import show
from persistence.migrate import upgrade

__all__ = ["up"]

_CLAIMED_WITHIN = 5.0  # seconds
_SETTLED_AFTER = 0.2  # seconds; each worker says one line when it has its partition
_SERVERS_OF_YOURS = ("DATABASE_URL", "REDIS_HOST", "REDIS_PORT", "KAFKA_BOOTSTRAP_SERVERS")


async def up(folder: Folder) -> None:
    """Run until Ctrl-C, or until a setting or a server turns out unusable."""
    signals = Signals()
    signals.install()
    folder.hold()
    try:
        asked = settings_or_exit()
        stack = Stack(folder.path, {*asked.transport.logs, *logs_in(folder.path)})
        overrides = {**stack.settings(), **_ports(asked), **_log_format()}
        settings = settings_or_exit(overrides)
        for note in (*stack.notes, *_ignored(), *_moved(asked, settings)):
            warn(note, label="note")
        run_file.write(folder.path, unseen(overrides))
        with suppress(Interrupted):
            await _run(stack, settings, signals)
        err.print(f"Stopped. Your data stays in {folder.path}")
    finally:
        if folder.held:
            run_file.remove(folder.path)
        folder.release()


async def _run(stack: Stack, settings: Settings, signals: Signals) -> None:
    names = " and ".join(server.name for server in stack.servers)
    try:
        with _progress(f"Starting {names} ..."):
            await signals.unless_stopped(stack.start())
        with _progress("Migrating the database ..."):
            await signals.unless_stopped(upgrade(stack.database_url))
        helpers = {asyncio.create_task(stack.keep_running(partial(err.print, style="yellow")))}

        def started(running: Running) -> None:
            helpers.add(asyncio.create_task(_announce(running, settings, stack)))

        try:
            await run_process(settings, Role.SERVE, signals.stop, started=started)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)
    finally:
        with _progress(f"Stopping {names} ..."):
            await stack.stop()


async def _announce(running: Running, settings: Settings, stack: Stack) -> None:
    """Show the panel once the workers have their partitions, so that it stays in sight."""
    if worker := running.service.worker:
        deadline = time.monotonic() + _CLAIMED_WITHIN
        while (  # noqa: ASYNC110
            len(worker.status().partitions) < settings.transport.stream_partitions
            and time.monotonic() < deadline
        ):
            await asyncio.sleep(0.05)  # a status to look at; there is no event to wait for
        await asyncio.sleep(_SETTLED_AFTER)
    show(settings, stack, running)


def _ports(asked: Settings) -> dict[str, str]:
    """Return PORT and METRICS_PORT: as asked where they are free, else the next ones that are."""
    port = pick(asked.ingress.port, asked.ingress.host)
    metrics = pick(asked.otel.metrics_port, asked.otel.metrics_host, avoid=frozenset({port}))
    return {"PORT": str(port), "METRICS_PORT": str(metrics)}


def _log_format() -> dict[str, str]:
    """Log for people where people read it, unless LOG_FORMAT says otherwise."""
    if "LOG_FORMAT" in os.environ or not sys.stderr.isatty():
        return {}
    return {"LOG_FORMAT": "console"}


def _moved(asked: Settings, settings: Settings) -> Iterator[str]:
    ports = {
        "PORT": (asked.ingress.port, settings.ingress.port),
        "METRICS_PORT": (asked.otel.metrics_port, settings.otel.metrics_port),
    }
    for name, (wanted, got) in ports.items():
        if wanted != got:
            yield f"{name} {wanted} is taken; using {got}"


def _ignored() -> Iterator[str]:
    for name in _SERVERS_OF_YOURS:
        if os.environ.get(name):
            yield f"{name} is not used: 'up' runs servers of its own ('crossfade serve' uses yours)"


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """Show a spinner where there is a terminal, a line where there is none."""
    if err.is_terminal:
        with err.status(styled(text)):
            yield
    else:
        err.print(text)
        yield
