"""How the command talks to people: results on standard output, the rest on standard error."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import uvloop
from dotenv import dotenv_values
from rich.console import Console

from compose.local.process import ServerError
from compose.local.run_file import running_settings
from compose.settings import ENV_FILE, Settings, SettingsError, load, misspelt
from persistence.errors import Outage
from transport.errors import ConfigurationError, TransportError

__all__ = ["client_settings", "err", "fail", "out", "plain", "run", "settings_or_exit"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_BAD_SETTINGS = 2
_FAILED = 1

T = TypeVar("T")
_told: list[str] = []


def fail(*lines: str, status: int = _FAILED) -> NoReturn:
    """End the command with one line for each thing that is wrong."""
    for line in lines:
        err.print(f"[red]error:[/] {plain(line)}")
    sys.exit(status)


def settings_or_exit(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings; where some can't work, say which and end with status 2."""
    try:
        settings = load(overrides)
    except SettingsError as error:
        fail(*error.problems, status=_BAD_SETTINGS)
    for line in misspelt():
        err.print(f"[yellow]warning:[/] {plain(line)}")
    return settings


def client_settings() -> Settings:
    """Return the settings of a command that joins what runs.

    Where no database is named, and a ``crossfade up`` runs in this folder, its own are taken: what
    the environment and ``.env`` name still goes before them.
    """
    named = {
        name for name, value in (*os.environ.items(), *dotenv_values(ENV_FILE).items()) if value
    }
    found = {} if "DATABASE_URL" in named else running_settings()
    if found and not _told:
        err.print("[dim]using the 'crossfade up' that runs in this folder[/]")
        _told.append(found["DATABASE_URL"])
    return settings_or_exit({name: value for name, value in found.items() if name not in named})


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine on uvloop; what users can mend ends it with one line."""
    # What client libraries say of an outage is told in our words; a service logs them, as set up.
    logging.getLogger().addHandler(logging.NullHandler())
    with _explained(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ConfigurationError, SettingsError) as error:
        fail(str(error), status=_BAD_SETTINGS)
    except (TransportError, Outage, ServerError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def plain(text: str) -> str:
    """Return text whose brackets rich takes for what they are."""
    return text.replace("[", r"\[")
