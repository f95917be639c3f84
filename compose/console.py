"""How the command talks to people: results on standard output, the rest on standard error."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dotenv import dotenv_values

from compose.local.process import ServerError
from compose.local.run_file import running_settings
from compose.loop import new_event_loop
from compose.settings import ENV_FILE, Settings, SettingsError, load, misspelt
from compose.terminal import Terminal, styled
from persistence.errors import Outage, PersistenceError
from transport.errors import ConfigurationError, TransportError

__all__ = [
    "client_settings",
    "err",
    "fail",
    "joined",
    "out",
    "run",
    "settings_or_exit",
    "warn",
    "working",
]

out = Terminal()
err = Terminal(stderr=True)

_BAD_SETTINGS = 2
_FAILED = 1

T = TypeVar("T")
_joined: list[str] = []  # the database of the 'crossfade up' that this command found first
_taken: dict[str, str] = {}  # the settings of that 'crossfade up' which are in force here
_alone: list[bool] = []  # whether it found none, and nobody named a database either


def fail(*lines: str, status: int = _FAILED) -> NoReturn:
    """End the command with one line for each thing that is wrong.

    What stands on lines of its own in one of them (what a server said last) follows indented.
    """
    for text in lines:
        line, *more = text.split("\n")
        err.print(styled(("error:", "red"), " ", line))
        for one in more:
            err.print(styled("  ", one))
    sys.exit(status)


def warn(text: str, label: str = "warning") -> None:
    """Say on standard error what may not be as expected."""
    err.print(styled((f"{label}:", "yellow"), " ", text))


def settings_or_exit(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings; where some can't work, say which and end with status 2."""
    try:
        settings = load(overrides)
    except SettingsError as error:
        fail(*error.problems, status=_BAD_SETTINGS)
    for line in misspelt():
        warn(line)
    return settings


def client_settings(*, say: bool = True) -> Settings:
    """Return the settings of a command that joins what runs.

    Where no database is named, and a ``crossfade up`` runs in this folder, its own are taken: what
    the environment and ``.env`` name still goes before them. ``say`` which those are, once.

    Raises:
        Outage: that ``crossfade up``, which this command has joined before, is stopped now. What
            the defaults would lead to may be somebody else's.
    """
    named = {
        name for name, value in (*os.environ.items(), *dotenv_values(ENV_FILE).items()) if value
    }
    if "DATABASE_URL" in named:
        _alone.clear()
        return settings_or_exit()
    found = running_settings()
    if not found and _joined:
        raise Outage("the 'crossfade up' of this folder is stopped")
    if found and not _joined:
        if say:
            err.print(styled(("using the 'crossfade up' that runs in this folder", "dim")))
        _joined.append(found["DATABASE_URL"])
    _alone[:] = [not found]
    _taken.clear()
    _taken.update({name: value for name, value in found.items() if name not in named})
    return settings_or_exit(_taken)


def joined() -> dict[str, str]:
    """Return the settings that :func:`client_settings` took from a ``crossfade up``, by name."""
    return dict(_taken)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine on uvloop; what users can mend ends it with one line."""
    # What client libraries say of an outage is told in our words; a service logs them, as set up.
    logging.getLogger().addHandler(logging.NullHandler())
    with _explained(), asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


@contextmanager
def _explained() -> Iterator[None]:
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
        fail(str(error))
    except ServerError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Say what takes its time, where somebody waits at a terminal."""
    if not err.is_terminal:
        yield
        return
    with err.status(styled(text)):
        yield
