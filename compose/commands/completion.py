"""``crossfade completion``: makes the shell complete commands, options and their values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]
from typer.completion import install as install_script  # type: ignore[attr-defined]

from compose.output import err, out
from compose.terminal import paragraph

__all__ = ["COMPLETE", "completion"]

_NAME = "crossfade"
COMPLETE = "_CROSSFADE_COMPLETE"
"""The environment variable with which a shell asks for completions."""


class Shell(StrEnum):
    """The supported shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that completes.")],
    *,
    install: Annotated[
        bool, typer.Option("--install", help="Put it where the shell reads it at its start.")
    ] = False,
) -> None:
    """Print the script that makes a shell complete 'crossfade'.

    For the running shell: source <(crossfade completion bash). For every shell from now on:
    crossfade completion bash --install.
    """
    if not install:
        script = get_completion_script(prog_name=_NAME, complete_var=COMPLETE, shell=shell.value)
        out.print(paragraph(script))
        return
    _, path = install_script(shell=shell.value, prog_name=_NAME, complete_var=COMPLETE)
    err.print(f"{path} is read by every {shell} that starts from now on.")
