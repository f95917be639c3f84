"""Runs the servers and the service of ``crossfade up`` until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TextIO, cast

from compose.commands.up.key import PassingKey, passing_key
from compose.commands.up.log import NAME, Notices, RotatingFile
from compose.commands.up.panel import UpPanel, moved_ports
from compose.commands.up.payloads import forget_earlier_run, take_over
from compose.local import run_file
from compose.local.folder import Folder
from compose.local.ports import pick
from compose.local.stack import Stack, logs_in
from compose.output import err, fail, settings_or_exit, warn
from compose.process.listening_socket import listen_near
from compose.process.role import Role
from compose.process.serve import Running
from compose.process.serve import run as run_process
from compose.process.signals import Interrupted, Signals
from compose.process.wiring import PRIVATE_ERRORS
from compose.settings import Settings, unseen
from compose.supervisor.listeners import Listeners
from compose.supervisor.shutdown import longest_stop
from compose.supervisor.supervisor import Layout, StartFailedError, Supervisor
from compose.terminal import paragraph, styled
from otel.logging import Echo, configure, printer
from otel.settings import OtelSettings
from persistence.migrate import upgrade

__all__ = ["up"]

_CLAIMED_WITHIN = 5.0  # seconds
_SETTLED_AFTER = 0.2  # seconds for the log lines of workers that got their partitions
_SERVERS_OF_YOURS = (
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "KAFKA_BOOTSTRAP_SERVERS",
)


async def up(
    folder: Folder, layout: Layout | None = None, *, s3: bool = False, verbose: bool = False
) -> None:
    """Run until Ctrl-C, or until a setting or a server turns out unusable.

    Args:
        folder: The data folder, which also has the log file.
        layout: The processes of the service; ``None``: the service runs in this process.
        s3: Whether payloads are kept in an S3 server.
        verbose: Whether all log lines are shown here too.
    """
    signals = Signals()
    signals.install()
    folder.hold()
    try:
        asked = settings_or_exit()
        stack = Stack(folder.path, {*asked.transport.kinds, *logs_in(folder.path)}, s3=s3)
        settings_or_exit(stack.settings())  # report settings that can't work before any start
        for note in (*stack.notes, *_ignored()):
            warn(note, label="note")
        run_file.write(folder.path, {})
        with suppress(Interrupted), RotatingFile(folder.path / NAME, failed=warn) as file:
            await _Up(folder, asked, stack, signals, _Logging(file, verbose=verbose), layout).run()
        err.print(f"Stopped. Your data stays in {folder.path}")
    finally:
        if folder.held:
            run_file.remove(folder.path)
        folder.release()


def _key(key: PassingKey | None) -> dict[str, str]:
    """Return the setting with the API key for commands in another terminal."""
    return {"CROSSFADE_API_KEY": key.secret} if key else {}


@dataclass(frozen=True)
class _Up:
    """One run. ``asked`` are the user's settings, without the addresses of the servers."""

    folder: Folder
    asked: Settings
    stack: Stack
    signals: Signals
    logging: _Logging
    layout: Layout | None

    async def run(self) -> None:
        """Start the servers, run the service on them, and always stop them at the end."""
        names = " and ".join(server.name for server in self.stack.servers)
        try:
            with _progress(f"Starting {names} ..."):
                await self.signals.unless_stopped(self.stack.start())
            with _progress("Migrating the database ..."):
                await self.signals.unless_stopped(upgrade(self.stack.database_url))
            await self._serve()
        finally:
            with _progress(f"Stopping {names} ..."):
                await self.stack.stop()

    async def _serve(self) -> None:
        asked, stack = self.asked, self.stack
        bound, port = listen_near(asked.ingress.host, asked.ingress.port)
        metrics = pick(asked.otel.metrics_port, asked.otel.metrics_host)
        ports = {"PORT": str(port), "METRICS_PORT": str(metrics)}
        overrides = {**stack.settings(), **ports, **_log_format(asked)}
        key = passing_key(asked.ingress)
        if key is not None:
            overrides["API_KEYS"] = key.api_keys
        settings = settings_or_exit(overrides)
        await forget_earlier_run(settings.persistence)
        await take_over(settings.payloads)
        for moved in moved_ports(asked, settings, stack):
            warn(f"{moved.name} {moved.usual} is taken; using {moved.used}", label="note")
        run_file.write(self.folder.path, {**unseen(overrides), **_key(key)})
        panel = UpPanel(asked, settings, stack, self.logging.path, key, self.layout)
        helpers = {asyncio.create_task(stack.keep_running(partial(err.print, style="yellow")))}

        try:
            if self.layout is None:
                await self._run_here(settings, bound, panel, helpers)
            else:
                bound.close()
                await self._supervise(self.layout, settings, overrides, panel)
        finally:
            bound.close()
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)

    async def _run_here(
        self,
        settings: Settings,
        bound: socket.socket,
        panel: UpPanel,
        helpers: set[asyncio.Task[None]],
    ) -> None:
        def started(running: Running) -> None:
            helpers.add(asyncio.create_task(_announce(running, settings, panel)))

        await run_process(
            settings,
            Role.SERVE,
            self.signals.stop,
            started=started,
            logging=self.logging,
            bound=bound,
        )

    async def _supervise(
        self, layout: Layout, settings: Settings, overrides: dict[str, str], panel: UpPanel
    ) -> None:
        self.logging(settings.otel)
        supervisor = Supervisor(
            layout,
            Listeners(settings.ingress.host, settings.ingress.port, layout.processes),
            stop_seconds=longest_stop(settings.process),
            environment={**overrides, "LOG_FORMAT": "json"},
            said=self.logging.pass_on,
        )
        self.signals.forced = supervisor.kill
        try:
            addresses = await self.signals.unless_stopped(supervisor.start())
            panel.show(addresses.url, addresses.metrics_url)
            await supervisor.run(self.signals.stop, reload=asyncio.Event())
        except StartFailedError as error:
            fail(str(error), status=error.status)
        finally:
            await supervisor.stop()


class _Logging:
    """The log: JSON lines in the file; warnings and errors, or all lines, on standard error."""

    def __init__(self, file: RotatingFile, *, verbose: bool) -> None:
        self._file = file
        self._verbose = verbose
        self._echo: Echo = Notices(err, file.path)
        self.path = file.path

    def __call__(self, settings: OtelSettings) -> None:
        """Set up the log of this process."""
        if self._verbose:
            self._echo = printer(settings, sys.stderr)
        configure(
            settings.model_copy(update={"log_format": "json"}),
            stream=cast("TextIO", self._file),
            private_errors=PRIVATE_ERRORS,
            echo=self._echo,
        )

    def pass_on(self, line: str) -> None:
        """Log a line of another process."""
        self._file.write(f"{line}\n")
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            self._echo(event)
        else:  # not a log line: written by Python or by a command
            err.print(paragraph(line))


async def _announce(running: Running, settings: Settings, panel: UpPanel) -> None:
    """Show the panel once the workers have their partitions: their log lines come before it."""
    if consumers := running.service.consumers:
        deadline = time.monotonic() + _CLAIMED_WITHIN
        while (  # noqa: ASYNC110
            len(consumers.worker.status().partitions) < settings.transport.stream_partitions
            and time.monotonic() < deadline
        ):
            await asyncio.sleep(0.05)  # poll: the worker's status has no event to wait for
        await asyncio.sleep(_SETTLED_AFTER)
    panel.show(running.url, running.metrics_url)


def _log_format(asked: Settings) -> dict[str, str]:
    """Return the setting for a readable log in a terminal, unless LOG_FORMAT is set."""
    if "log_format" in asked.otel.model_fields_set or not sys.stderr.isatty():
        return {}
    return {"LOG_FORMAT": "console"}


def _ignored() -> Iterator[str]:
    for name in _SERVERS_OF_YOURS:
        if os.environ.get(name):
            yield f"{name} is not used: 'up' runs servers of its own ('crossfade serve' uses yours)"


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """Show a spinner in a terminal; print a line elsewhere."""
    if err.is_terminal:
        with err.status(styled(text)):
            yield
    else:
        err.print(text)
        yield
