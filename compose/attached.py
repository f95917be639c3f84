"""Commands that are in other packages, such as ``crossfade soak``.

A package attaches one by an entry point of the group ``crossfade.commands``. The entry point's name
is the command's, after a dot behind its group's (``migrate.rehearse``). It leads to a function, or
to a ``typer.Typer`` with several. Entry points are read only where ``crossfade`` itself has no
command of the name that is asked for, or where every command is listed.
"""

from __future__ import annotations

from copy import copy
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from compose.output import fail

__all__ = ["EXTRAS", "add", "add_missing", "attach", "names", "with_attached"]

EXTRAS = {"crossfade_client": "client", "lab": "lab"}
"""The extra of ``crossfade`` for each module that is in a package of its own."""

_GROUP = "crossfade.commands"
_OF_THE_LAB = ("dev", "soak", "migrate.rehearse")
_MISUSED = 2


def attach(app: typer.Typer, group: str = "", only: str | None = None) -> bool:
    """Add the commands of other packages to ``app``; return whether there were any.

    Args:
        app: The program, or a group of its commands.
        group: The name of that group; empty for the program.
        only: The one command that is needed; all of them by default.
    """
    found, any_added = _found(), False
    for full in dict.fromkeys((*found, *_OF_THE_LAB)):
        inside, _, name = full.rpartition(".")
        if inside != group or name in names(app) or only not in {None, name}:
            continue
        if full in found:
            add(app, name, found[full].load())
        else:
            add_missing(app, full, EXTRAS["lab"])
        any_added = True
    return any_added


def with_attached(app: typer.Typer, group: str) -> typer.Typer:
    """Return ``app``, a group of commands, with those of other packages."""
    whole = copy(app)
    whole.registered_commands = [*app.registered_commands]
    whole.registered_groups = [*app.registered_groups]
    attach(whole, group)
    return whole


@cache
def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP)}


def names(app: typer.Typer) -> set[str]:
    """Return the names of the commands that ``app`` has."""
    commands = {_name(command) for command in app.registered_commands}
    return commands | {str(inner.name) for inner in app.registered_groups}


def add(app: typer.Typer, name: str, command: Any) -> None:
    """Add a command, or a group of them."""
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name=name)(command)


def add_missing(app: typer.Typer, full: str, extra: str) -> None:
    """Add a command that says which package has it. No help lists it."""

    def missing(_context: typer.Context) -> None:
        fail(
            f"'crossfade {full.replace('.', ' ')}' needs the package crossfade-{extra}: "
            f"pip install crossfade-{extra} (in a checkout: make env EXTRA={extra})",
            status=_MISUSED,
        )

    app.command(
        name=full.rpartition(".")[2],
        hidden=True,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(missing)


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__.replace("_", "-"))
