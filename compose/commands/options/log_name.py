"""Checks options and arguments that name a log."""

from __future__ import annotations

import typer

from compose.output import fail
from transport.errors import ConfigurationError
from transport.registry import known_name

__all__ = ["named_log"]

_MISUSED = 2


def named_log(param: typer.CallbackParam, name: str | None) -> str | None:
    """Return the name of a log; end the command if it is malformed, or of an unknown kind."""
    if name is not None:
        option = param.opts[0]
        try:
            known_name(name, variable=option if option.startswith("-") else option.upper())
        except ConfigurationError as error:
            fail(str(error), status=_MISUSED)
    return name
