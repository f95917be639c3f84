"""Everything on this machine, on real servers, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TextIO, cast

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
from compose.up_key import passing_key
from compose.up_log import NAME, Notices, RotatingFile
from compose.up_panel import Panel, moved_ports
from compose.wiring import PRIVATE_ERRORS
from otel.logging import configure, printer
from otel.settings import OtelSettings
from persistence.migrate import upgrade

__all__ = ["up"]

_CLAIMED_WITHIN = 5.0  # seconds
_SETTLED_AFTER = 0.2  # seconds; each worker says one line when it has its partition
_SERVERS_OF_YOURS = ("DATABASE_URL", "REDIS_HOST", "REDIS_PORT", "KAFKA_BOOTSTRAP_SERVERS")


async def up(folder: Folder, *, verbose: bool = False) -> None:
    """Run until Ctrl-C, or until a setting or a server turns out unusable.

    The log goes to a file in ``folder``; all of it is shown here too where ``verbose`` asks for it.
    """
    signals = Signals()
    signals.install()
    folder.hold()
    try:
        asked = settings_or_exit()
        stack = Stack(folder.path, {*asked.transport.logs, *logs_in(folder.path)})
        key = passing_key(asked.ingress)
        overrides = {**stack.settings(), **_ports(asked), **_log_format(asked)}
        if key is not None:
            overrides["API_KEYS"] = key.api_keys
        settings = settings_or_exit(overrides)
        moved = moved_ports(asked, settings, stack)
        notes = (f"{one.name} {one.usual} is taken; using {one.used}" for one in moved)
        for note in (*stack.notes, *_ignored(), *notes):
            warn(note, label="note")
        run_file.write(folder.path, unseen(overrides))
        with suppress(Interrupted), RotatingFile(folder.path / NAME, failed=warn) as file:
            panel = Panel(asked, settings, stack, file.path, key)
            await _run(stack, settings, signals, panel, _Logging(file, verbose=verbose))
        err.print(f"Stopped. Your data stays in {folder.path}")
    finally:
        if folder.held:
            run_file.remove(folder.path)
        folder.release()


class _Logging:
    """Sets up the log: JSON in the file, and what is to be seen on standard error."""

    def __init__(self, file: RotatingFile, *, verbose: bool) -> None:
        self._file = file
        self._verbose = verbose

    def __call__(self, settings: OtelSettings) -> None:
        """Set it up for this process."""
        notices = Notices(err, self._file.path)
        configure(
            settings.model_copy(update={"log_format": "json"}),
            stream=cast("TextIO", self._file),
            private_errors=PRIVATE_ERRORS,
            echo=printer(settings, sys.stderr) if self._verbose else notices,
        )


async def _run(
    stack: Stack, settings: Settings, signals: Signals, panel: Panel, logging: _Logging
) -> None:
    names = " and ".join(server.name for server in stack.servers)
    try:
        with _progress(f"Starting {names} ..."):
            await signals.unless_stopped(stack.start())
        with _progress("Migrating the database ..."):
            await signals.unless_stopped(upgrade(stack.database_url))
        helpers = {asyncio.create_task(stack.keep_running(partial(err.print, style="yellow")))}

        def started(running: Running) -> None:
            helpers.add(asyncio.create_task(_announce(running, settings, panel)))

        try:
            await run_process(settings, Role.SERVE, signals.stop, started=started, logging=logging)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)
    finally:
        with _progress(f"Stopping {names} ..."):
            await stack.stop()


async def _announce(running: Running, settings: Settings, panel: Panel) -> None:
    """Show the panel once the workers have their partitions: their log lines come before it."""
    if worker := running.service.worker:
        deadline = time.monotonic() + _CLAIMED_WITHIN
        while (  # noqa: ASYNC110
            len(worker.status().partitions) < settings.transport.stream_partitions
            and time.monotonic() < deadline
        ):
            await asyncio.sleep(0.05)  # a status to look at; there is no event to wait for
        await asyncio.sleep(_SETTLED_AFTER)
    panel.show(running)


def _ports(asked: Settings) -> dict[str, str]:
    """Return PORT and METRICS_PORT: as asked where they are free, else the next ones that are."""
    port = pick(asked.ingress.port, asked.ingress.host)
    metrics = pick(asked.otel.metrics_port, asked.otel.metrics_host, avoid=frozenset({port}))
    return {"PORT": str(port), "METRICS_PORT": str(metrics)}


def _log_format(asked: Settings) -> dict[str, str]:
    """Log for people where people read it, unless LOG_FORMAT says otherwise."""
    if "log_format" in asked.otel.model_fields_set or not sys.stderr.isatty():
        return {}
    return {"LOG_FORMAT": "console"}


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
