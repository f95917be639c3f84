"""The ``crossfade`` command."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from compose.commands import db, dlq, keys, migrate
from compose.commands.audit import audit
from compose.commands.message import show as message
from compose.commands.serve import serve, worker
from compose.commands.settings import show as settings
from compose.commands.status import show as status
from compose.commands.tail import follow as tail
from compose.commands.up import up
from compose.console import out

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames would print local variables, secrets among them
    help="Durable message delivery over a log that can be changed under live traffic.",
)
app.command()(up)
app.command()(serve)
app.command()(worker)
app.command(name="status")(status)
app.command(name="settings")(settings)
app.command(name="tail")(tail)
app.command(name="message")(message)
app.command()(audit)
app.add_typer(dlq.app, name="dlq")
app.add_typer(db.app, name="db")
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
    """Run the command line."""
    app()
