"""Generates the reference in ``docs/cli.md`` from the command line.

``python -m compose.cli_page docs/cli.md`` replaces the reference, and keeps the sections written by
hand above it. A test compares the page with the commands.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from compose.cli import application

__all__ = ["leaves", "page"]

_BEGIN = "\n## Commands\n"
_WIDTH = 110


def page(before: str) -> str:
    """Return the page with a section for each command.

    Args:
        before: The present page, whose sections of commands are replaced.
    """
    parts = [before.partition(_BEGIN)[0], _BEGIN]
    for name, command in leaves(get_command(application())):
        about = inspect.cleandoc(command.help).replace("\n\n", "\n").split("\n")
        parts.append(f"\n### crossfade {name}\n\n{_wrapped(' '.join(about))}\n")
        items = [item for param in command.params if (item := _item(param))]
        if items:
            parts += ["\n", *items]
    return "".join(parts)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, group by group."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, member in inner.items():
        yield from leaves(member, (*path, name))


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent="  " * text.startswith("- "), break_on_hyphens=False
    )


def _item(param: Any) -> str:
    about = getattr(param, "help", None)
    if about is None or getattr(param, "hidden", False):
        return ""
    default = param.default
    shown = default is not None and default != "" and not isinstance(default, bool | list)
    note = f" Default: `{default}`." if shown and not callable(default) else ""
    if param.param_type_name == "argument":
        names = (param.metavar or param.name).upper()
    else:
        names = ", ".join([*param.opts, *param.secondary_opts])
        if param.metavar:
            names += f" {param.metavar}"
    end = "" if about.endswith((".", "?")) else "."
    return _wrapped(f"- `{names}`: {about}{end}{note}") + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text("utf-8")), "utf-8")
