"""``crossfade up``: everything on this machine, on real servers, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compose.commands.options.layout import Processes, Workers, layout_of
from compose.local.folder import Folder
from compose.local.run_file import DEFAULT_FOLDER
from compose.output import run

__all__ = ["up"]


def up(
    data: Annotated[
        Path, typer.Option(readable=False, help="Where the servers keep their data.")
    ] = DEFAULT_FOLDER,
    *,
    processes: Processes = None,
    workers: Workers = 0,
    s3: Annotated[
        bool,
        typer.Option("--s3", help="Keep large payloads in a real S3 server, not in a folder."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every log line here, as LOG_FORMAT says.")
    ] = False,
) -> None:
    """Run everything here, on real servers, until Ctrl-C.

    It starts a log, PostgreSQL with its migrations, a store for large payloads, the API, workers
    and metrics. Warnings and errors are shown here; all log lines go to crossfade.log in the data
    folder. With --processes or --workers the service runs as 'crossfade serve' does with them.
    """
    # FastAPI and Alembic take most of a second to import, and other commands don't need them.
    from compose.commands.up import stack  # noqa: PLC0415

    layout = layout_of(processes, workers)
    run(lambda: stack.up(Folder(data), layout, s3=s3, verbose=verbose))
