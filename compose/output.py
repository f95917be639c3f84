"""The command's output: results on standard output, the rest on standard error."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import structlog
from dotenv import dotenv_values

from compose.local.run_file import is_starting, running_settings
from compose.local.server import ServerError
from compose.loop import new_event_loop
from compose.settings import ENV_FILE, Settings, SettingsError, load, misspelt, servers
from compose.terminal import Terminal, styled
from persistence.errors import Outage, PersistenceError
from transport.errors import ConfigurationError, TransportError, TransportUnavailable

__all__ = [
    "UNKNOWN",
    "client_settings",
    "err",
    "fail",
    "joined",
    "must_still_run",
    "out",
    "run",
    "settings_or_exit",
    "warn",
    "working",
]

out = Terminal()
err = Terminal(stderr=True)

_BAD_SETTINGS = 2
_SERVERS = ("DATABASE_URL", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "KAFKA_BOOTSTRAP_SERVERS")
_FAILED = 1
UNKNOWN = 3
"""The exit status of a command that can't tell what it was asked."""

T = TypeVar("T")
_joined: list[str] = []  # the database of the 'crossfade up' that this command found first
_taken: dict[str, str] = {}  # the settings that this command took from that 'crossfade up'
_where: list[str] = []  # a sentence with the servers of the settings
_told: list[bool] = []  # whether that sentence was printed
_alone: list[bool] = []  # whether no 'crossfade up' was found, and no database was named


def fail(*lines: str, status: int = _FAILED) -> NoReturn:
    """End the command with ``status``, after printing one error per text on standard error.

    Further lines of a text, such as a server's last output, are printed indented. With ``--json``
    each error is a JSON object.
    """
    for text in lines:
        if err.notes_as_json:
            err.json_line({"level": "error", "message": text, "status": status})
            continue
        line, *more = text.split("\n")
        err.print(styled(("error:", "red"), " ", line))
        for further in more:
            err.print(styled("  ", further))
    sys.exit(status)


def warn(text: str, label: str = "warning") -> None:
    """Print a warning, or another note with its ``label``, on standard error."""
    if err.notes_as_json:
        err.json_line({"level": label, "message": text})
        return
    err.print(styled((f"{label}:", "yellow"), " ", text))


def settings_or_exit(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings; if some can't work, print which, and end with status 2."""
    try:
        settings = load(overrides)
    except SettingsError as error:
        fail(*error.problems, status=_BAD_SETTINGS)
    for line in misspelt():
        warn(line)
    return settings


def client_settings(*, say: bool = True, needed: bool = True) -> Settings:
    """Return the settings of a command that uses running servers.

    If a ``crossfade up`` runs in this folder, the command takes its settings, unless another
    database is named; the environment and ``.env`` override single settings.

    Args:
        say: Print once which servers the settings name.
        needed: End the command with status 1 if no server is named and no ``crossfade up`` runs
            here: at the default addresses there may be other servers.

    Raises:
        Outage: the ``crossfade up`` that this command has joined before has stopped.
    """
    named = _named()
    found = running_settings()
    if named.get("DATABASE_URL", found.get("DATABASE_URL")) != found.get("DATABASE_URL"):
        _alone.clear()
        return _located(settings_or_exit(), say=say)
    must_still_run()
    if not found and needed and not named.keys() & _SERVERS:
        _nothing_runs()
    _alone[:] = [not found]
    _taken.clear()
    _taken.update({name: value for name, value in found.items() if name not in named})
    settings = settings_or_exit(_taken)
    if found and not _joined:
        _joined.append(found["DATABASE_URL"])
        return _located(settings, say=say)
    return _located(settings, say=say and not found and needed)


def must_still_run() -> None:
    """Check that the ``crossfade up`` that this command has joined, if any, still runs.

    Raises:
        Outage: it has stopped, and another program's server may get its ports.
    """
    if _joined and running_settings().get("DATABASE_URL") is None:
        raise Outage("the 'crossfade up' of this folder is stopped")


def _named() -> dict[str, str]:
    """Return the variables that have a value in the environment or in ``.env``."""
    every = (*dotenv_values(ENV_FILE).items(), *os.environ.items())
    return {name: value for name, value in every if value}


def _nothing_runs() -> NoReturn:
    folder = Path.cwd()
    if is_starting():
        fail(f"the 'crossfade up' in {folder} is still starting: wait until it shows its addresses")
    fail(
        f"no 'crossfade up' runs in {folder}, and no server is named: start it here ('make up' or "
        "'crossfade up'), go to the folder where it runs, or set DATABASE_URL and REDIS_HOST or "
        "KAFKA_BOOTSTRAP_SERVERS"
    )


def _located(settings: Settings, *, say: bool) -> Settings:
    """Print once which servers the settings name, and why.

    Without a terminal, print them only with an error, or if they are those of a ``crossfade up``.
    """
    here = " of the 'crossfade up' that runs in this folder" if _joined else ""
    text = f"using {servers(settings, _taken)}{here}"
    _where[:] = [text]
    if say and not _told and (_joined or err.is_terminal):
        _told.append(True)
        err.print(styled((text, "dim")))
    return settings


def joined() -> dict[str, str]:
    """Return the settings that ``client_settings`` took from a ``crossfade up``, by name."""
    return dict(_taken)


def run(main: Callable[[], Coroutine[Any, Any, T]], *, unreachable: int = _FAILED) -> T:
    """Run a command's coroutine on uvloop; errors that users can fix end it with one line.

    Args:
        main: Makes the coroutine.
        unreachable: The exit status if a server can't be reached or used. ``UNKNOWN`` is for a
            command whose status 1 says that it found something.
    """
    # A command prints its own errors, so drop log lines; the service's commands configure logging.
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with _explained(unreachable), asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


@contextmanager
def _explained(unreachable: int) -> Iterator[None]:
    try:
        yield
    except (ConfigurationError, SettingsError) as error:
        fail(str(error), status=_BAD_SETTINGS)
    except (TransportError, PersistenceError) as error:
        if any(_alone):
            warn(
                f"no 'crossfade up' runs in {Path.cwd()}: go to the folder where it runs, or set "
                "DATABASE_URL and the rest to join another service",
                label="note",
            )
        elif _where and not _told:
            warn(_where[0], label="note")
        unasked = isinstance(error, (TransportUnavailable, Outage))
        fail(str(error), status=unreachable if unasked else _FAILED)
    except ServerError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show the name of a long step in a terminal while it runs."""
    if not err.is_terminal:
        yield
        return
    with err.status(styled(text)):
        yield
