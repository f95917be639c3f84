"""The ``crossfade`` command."""

from __future__ import annotations

import os
import re
import sys
import traceback
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from itertools import pairwise
from typing import Annotated, NoReturn

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from compose.attached import EXTRAS, add, add_missing, attach, names, with_attached
from compose.commands.completion import COMPLETE
from compose.local.os_errors import explained
from compose.output import err, fail, out
from compose.terminal import paragraph, styled

__all__ = ["application", "main"]

_FAULT = 1
_MISUSED = 2
_VERSION = "--version"
_NO_UUID = re.compile("Input should be a valid UUID.*")
_AN_ID = "give a whole id, such as 28058b17-a643-885e-8ee6-8b7ae2f04d8e"

_HELP = "Durable message delivery over a log that can be changed under live traffic."
_EPILOG = (
    "Exit status: 0 done; 1 failed, or something is wrong; 2 misused, or a setting can't work; 3 "
    "can't tell; 4 not in time; 130 interrupted. 'crossfade COMMAND --help' says more, docs/cli.md "
    "all of it."
)
_COMMANDS = {
    "up": "compose.commands.up.up:up",
    "serve": "compose.commands.serve:serve",
    "worker": "compose.commands.serve:worker",
    "status": "compose.commands.status.status:show",
    "doctor": "compose.commands.doctor:examine",
    "settings": "compose.commands.settings:show",
    "capacity": "compose.commands.capacity:show",
    "tail": "compose.commands.tail:follow",
    "message": "compose.commands.message:show",
    "conversation": "compose.commands.conversation:show",
    "produce": "compose.commands.produce:produce",
    "audit": "compose.commands.audit:audit",
    "erase": "compose.commands.erase:erase",
    "completion": "compose.commands.completion:completion",
    "dlq": "compose.commands.dlq.dlq:app",
    "db": "compose.commands.db.db:app",
    "jobs": "compose.commands.jobs:app",
    "keys": "compose.commands.keys:app",
    "migrate": "compose.commands.migrate.migrate:app",
    "payloads": "compose.commands.payloads:app",
    "rows": "compose.commands.rows:app",
}
"""The module and function of each command. Only the requested command is imported, since importing
all of them takes half a second. ``compose.attached`` has the commands of other packages."""


def application(only: str | None = None, then: str | None = None) -> typer.Typer:
    """Return the command line with every command, or with ``only`` alone if it is one.

    With ``--version`` it has none: each takes time to import.

    Args:
        only: The first argument of the program.
        then: The second one: where it is a command of the group ``only``, nothing is attached.
    """
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its tracebacks print variables, which may be secrets
        rich_markup_mode=None,  # plain help, also in pipes; Rich's frames would break long names
        context_settings={"max_content_width": 100, "help_option_names": ["--help", "-h"]},
        help=_HELP,
        epilog=_EPILOG,
    )
    app.callback()(_options)
    if only == _VERSION:
        return app
    if only is not None and only not in _COMMANDS and attach(app, only=only):
        return app
    for name in [only] if only in _COMMANDS else _COMMANDS:
        _add(app, name, then)
    if only not in _COMMANDS:
        attach(app)
    return app


def _add(app: typer.Typer, name: str, then: str | None) -> None:
    module, _, attribute = _COMMANDS[name].partition(":")
    try:
        command = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        add_missing(app, name, EXTRAS[error.name])
        return
    if isinstance(command, typer.Typer) and then not in names(command):
        command = with_attached(command, name)
    add(app, name, command)


def _version(*, asked: bool) -> None:
    if asked:
        out.print(f"crossfade {version('crossfade')}")
        raise typer.Exit


def _options(
    *,
    _asked: Annotated[
        bool, typer.Option(_VERSION, callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line, and print every error itself.

    Typer's errors of arguments and Python's tracebacks may quote text from outside, which must not
    reach the terminal unescaped.
    """
    arguments = sys.argv[1:]
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    err.notes_as_json = "--json" in ours
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that are not UTF-8
    if COMPLETE in os.environ:
        completion_init()
    try:
        _utf8(arguments)
        _not_empty(ours)
        status = application(*ours[:2])(standalone_mode=False)
    except typer.Abort:
        fail("aborted")
    except typer.TyperException as error:
        _misused(error)
    except OSError as error:
        if not (told := explained(error)):
            _fault()
        fail(told)
    except Exception:  # noqa: BLE001 - the last frame: it prints the traceback, escaped
        _fault()
    sys.exit(status)


def _fault() -> NoReturn:
    told = traceback.format_exc().rstrip()
    if err.notes_as_json:
        fail(told, status=_FAULT)
    err.print(paragraph(told))
    sys.exit(_FAULT)


def _utf8(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            fail(
                f"the argument {argument!r} is not UTF-8, and no id is anything else",
                status=_MISUSED,
            )


def _not_empty(arguments: list[str]) -> None:
    """Refuse an option without a value, such as ``--conversation "$UNSET"`` in a script.

    An empty value would mean the default: another server, or every conversation.
    """
    for option, value in pairwise([*arguments, "-"]):
        name, equals, given = option.partition("=")
        if name.startswith("--") and (value == "" or (equals and not given)):
            fail(f"{name} is empty: give it a value, or leave it out", status=_MISUSED)


def _plain(text: str) -> str:
    """Return a message of Typer in our words, which say how an id looks."""
    text = _NO_UUID.sub(_AN_ID, text.replace("\n\t", " "))
    return text.replace(": Value error, ", ": ")


def _misused(error: typer.TyperException) -> NoReturn:
    """Print the error in the arguments."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a class that Typer does not export
        err.print(paragraph(error.format_message()))
        sys.exit(error.exit_code)
    if context is not None and not err.notes_as_json:
        err.print(styled((" ".join(context.get_usage().split()), "yellow")))
        err.print(styled((f"Try '{context.command_path} --help' for help.", "dim")))
    text = _plain(error.format_message())
    if type(error).__name__ == "NoSuchOption":
        text += " (an id that begins with '-' is given after '--')"
    fail(text, status=error.exit_code)
