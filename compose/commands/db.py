"""``crossfade db``: the schema; ``crossfade migrate`` is kept for the transport migration."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.console import client_settings, err, out, run
from compose.terminal import confirm

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The database schema: where it stands, up and down.")


def _url() -> str:
    return client_settings().persistence.database_url.get_secret_value()


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Where to go.")] = "head") -> None:
    """Migrate up. Safe to run from several processes at once, and while the service runs."""
    from persistence import migrate  # noqa: PLC0415 - Alembic: see compose.commands.up

    out.print(f"at {run(lambda: migrate.upgrade(_url(), revision))}")


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Where to go; base removes everything.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Migrate down. Columns and tables that the older schema lacks are lost with their rows."""
    from persistence import migrate  # noqa: PLC0415

    if not yes:
        err.print("Going down drops what the older schema does not have, rows included.")
        confirm(f"Migrate down to {revision}?")
    out.print(
        f"at {run(lambda: migrate.downgrade(_url(), revision)) or 'nothing (empty database)'}"
    )


@app.command()
def current() -> None:
    """Say where the database stands, and where this version wants it. Exit status 1 if behind."""
    from persistence import migrate  # noqa: PLC0415

    at, latest = run(lambda: migrate.current(_url())), migrate.latest()
    out.print(f"at {at or 'nothing (never migrated)'}; this version wants {latest}")
    if at != latest:
        raise typer.Exit(1)
