"""Examines this machine: the interpreter, the settings, and the limits of a process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from importlib.metadata import version

from compose.doctor.observation import Observation, fine, warning
from compose.interpreter import is_plain, label
from compose.settings import Settings, misspelt

__all__ = ["examine_machine"]

_FILES = 4096


def examine_machine(settings: Settings) -> Iterator[Observation]:
    """Yield the observations of the interpreter, the settings, and this process's limits."""
    yield fine("version", f"crossfade {version('crossfade')}")
    if is_plain():
        yield warning(
            "python",
            f"{label()}: the service takes more CPU for the same",
            "use one of your distribution or of the official images, or build it with that option",
        )
    else:
        yield fine("python", label())
    for line in misspelt():
        yield warning("settings", line, "correct its name")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _FILES:
        yield warning(
            "open files",
            f"{hard:,} at most: connections are reset when they are used up",
            f"raise the limit to {_FILES:,} or more (ulimit -Hn, LimitNOFILE)",
        )
    else:
        yield fine("open files", f"{hard:,} at most")
    if not settings.ingress.api_keys and not settings.ingress.api_keys_file:
        yield warning(
            "API keys",
            "none: whoever reaches the port may post and read",
            "make one with 'crossfade keys new'",
        )
