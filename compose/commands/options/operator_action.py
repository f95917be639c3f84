"""The operator at the command line and the reason, as the history keeps them."""

from __future__ import annotations

import getpass
import socket
from typing import Annotated

import typer

__all__ = ["Why", "caller", "said"]


def said(why: str) -> str:
    """Return the reason ``why`` without surrounding blanks.

    Raises:
        typer.BadParameter: the reason is blank.
    """
    if not why.strip():
        raise typer.BadParameter("say why: the history shows it to the next operator")
    return why.strip()


Why = Annotated[
    str, typer.Option(help="The reason; the history keeps it, with your name.", callback=said)
]


def caller() -> str:
    """Return ``user@host`` of the user at the command line, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
