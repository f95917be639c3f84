"""The reference of ``docs/cli.md``: made from the command line, so that it can't say anything else.

``python -m compose.cli_page docs/cli.md`` writes it anew, below what people wrote; a test compares.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from compose.cli import application

__all__ = ["leaves", "page"]

_BEGIN = "\n## Commands\n"


def page(before: str) -> str:
    """Return the page, with every command in place of those that it had."""
    parts = [before.partition(_BEGIN)[0], _BEGIN]
    for name, command in leaves(get_command(application())):
        about = inspect.cleandoc(command.help).replace("\n\n", "\n").split("\n")
        parts.append(f"\n### crossfade {name}\n\n{' '.join(about)}\n")
        rows = [row for param in command.params if (row := _row(param))]
        if rows:
            parts += ["\n| | |\n|---|---|\n", *rows]
    return "".join(parts)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, those of a group together."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, one in inner.items():
        yield from leaves(one, (*path, name))


def _row(param: Any) -> str:
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
    return f"| `{names}` | {about}{end}{note} |\n".replace("|x|", "x")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text("utf-8")), "utf-8")
