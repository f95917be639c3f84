"""The ``crossfade`` command."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from compose.commands import db, dev, dlq, keys, migrate
from compose.commands.audit import audit
from compose.commands.completion import COMPLETE, completion
from compose.commands.conversation import show as conversation
from compose.commands.message import show as message
from compose.commands.produce import produce
from compose.commands.serve import serve, worker
from compose.commands.settings import show as settings
from compose.commands.status import show as status
from compose.commands.tail import follow as tail
from compose.commands.up import up
from compose.local.os_errors import explained
from compose.output import err, fail, out
from compose.terminal import paragraph, styled

__all__ = ["app", "main"]

_FAULT = 1
_MISUSED = 2

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames would print local variables, secrets among them
    rich_markup_mode=None,  # help is text: in pipes too, and without frames that break names
    context_settings={"max_content_width": 100, "help_option_names": ["--help", "-h"]},
    help="Durable message delivery over a log that can be changed under live traffic.",
    epilog="Exit status: 0 done; 1 failed, or something is wrong; 2 misused, or a setting can't "
    "work; 3 can't tell; 4 not in time; 130 interrupted. 'crossfade COMMAND --help' says more, "
    "docs/cli.md all of it.",
)
app.command()(up)
app.command()(serve)
app.command()(worker)
app.command(name="status")(status)
app.command(name="settings")(settings)
app.command(name="tail")(tail)
app.command(name="message")(message)
app.command(name="conversation")(conversation)
app.command()(produce)
app.command()(audit)
app.command()(completion)
app.add_typer(dlq.app, name="dlq")
app.add_typer(db.app, name="db")
app.add_typer(dev.app, name="dev")
app.add_typer(keys.app, name="keys")
app.add_typer(migrate.app, name="migrate")


def _version(*, asked: bool) -> None:
    if asked:
        out.print(f"crossfade {version('crossfade')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line.

    Typer would print what is wrong with the arguments, and Python the traceback of a fault of ours,
    as they stand. Both may quote text from outside.
    """
    arguments = sys.argv[1:]
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    err.notes_as_json = "--json" in ours
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    if COMPLETE in os.environ:
        completion_init()
    try:
        _utf8(arguments)
        _not_empty(ours)
        status = app(standalone_mode=False)
    except typer.Abort:
        fail("aborted")
    except typer.TyperException as error:
        _misused(error)
    except OSError as error:
        if not (told := explained(error)):
            _fault()
        fail(told)
    except Exception:  # noqa: BLE001 - a fault of ours
        _fault()
    sys.exit(status)


def _fault() -> NoReturn:
    told = traceback.format_exc().rstrip()
    if err.notes_as_json:
        fail(told, status=_FAULT)
    err.print(paragraph(told))
    sys.exit(_FAULT)


def _utf8(arguments: list[str]) -> None:
    for one in arguments:
        try:
            one.encode()
        except UnicodeEncodeError:
            fail(f"the argument {one!r} is not UTF-8, and no id is anything else", status=_MISUSED)


def _not_empty(arguments: list[str]) -> None:
    """Refuse an option without a value, such as ``--conversation "$UNSET"`` in a script.

    Taken as it stands it would mean the default: another server, or every conversation.
    """
    for option, value in zip(arguments, [*arguments[1:], "-"], strict=True):
        name, equals, given = option.partition("=")
        if name.startswith("--") and (value == "" or (equals and not given)):
            fail(f"{name} is empty: give it a value, or leave it out", status=_MISUSED)


def _misused(error: typer.TyperException) -> NoReturn:
    """Say what is wrong with the arguments."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # a class that Typer does not export
        sys.exit(error.exit_code)
    if context is not None and not err.notes_as_json:
        err.print(styled((" ".join(context.get_usage().split()), "yellow")))
        err.print(styled((f"Try '{context.command_path} --help' for help.", "dim")))
    text = error.format_message()
    if type(error).__name__ == "NoSuchOption":
        text += " (an id that begins with '-' is given after '--')"
    fail(text, status=error.exit_code)
