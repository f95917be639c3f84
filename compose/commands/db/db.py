"""``crossfade db``: commands for the schema (``crossfade migrate`` is for the change of logs)."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.commands.options.common import DryRun, Json, Yes
from compose.output import client_settings, err, out, run
from compose.terminal import confirm

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Upgrade the schema of the database.")


def _url() -> str:
    return client_settings().persistence.direct_url


@app.command()
def upgrade(
    revision: Annotated[str, typer.Argument(help="The revision to upgrade to.")] = "head",
    *,
    as_json: Json = False,
) -> None:
    """Upgrade the schema.

    Several processes may run it at once, also while the service runs. A schema that a newer version
    made stays as it is.
    """
    from persistence import migrate  # noqa: PLC0415 - Alembic: see compose.commands.up.up

    at = run(lambda: migrate.upgrade(_url(), revision))
    if as_json:
        out.json({"at": at, "latest": migrate.latest()})
        return
    newer = at is not None and migrate.is_newer(at)
    out.print(f"at {at}" + (", of a newer version, which this one works with" if newer else ""))


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="The revision; base removes everything.")],
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take the schema back to an older revision.

    Columns and tables that the older schema does not have are dropped, with their data.
    """
    from persistence import migrate  # noqa: PLC0415

    if dry_run:
        undone = run(lambda: migrate.steps_down(_url(), revision))
        if as_json:
            out.json({"wouldUndo": [step._asdict() for step in undone]})
            return
        out.print(f"would undo {len(undone)} revisions" + (":" if undone else ""))
        for step in undone:
            out.print(f"  {step.revision}  {step.title}")
        return
    if not yes:
        err.print(
            "A downgrade drops the tables and columns that the older schema does not have, "
            "with their data."
        )
        confirm(f"Migrate down to {revision}?")
    at = run(lambda: migrate.downgrade(_url(), revision))
    if as_json:
        out.json({"at": at, "latest": migrate.latest()})
        return
    out.print(f"at {at or 'nothing (empty database)'}")


@app.command()
def current(*, as_json: Json = False) -> None:
    """Print the revision of the schema.

    It prints the revision of the database, and the one that this version needs. Exit status 1 if
    they differ.
    """
    from persistence import migrate  # noqa: PLC0415

    at, latest = run(lambda: migrate.current(_url())), migrate.latest()
    if as_json:
        out.json({"at": at, "latest": latest})
    else:
        out.print(f"at {at or 'nothing (never migrated)'}; this version wants {latest}")
    if at != latest:
        raise typer.Exit(1)
