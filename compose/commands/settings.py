"""``crossfade settings``: what is in force, and where it came from."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.console import client_settings, joined, out
from compose.settings import effective
from compose.terminal import Grid

__all__ = ["show"]


def show(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every setting as it is in force, secrets masked, and where it came from.

    Where a 'crossfade up' runs in this folder, that is as it is in force there.
    """
    settings = client_settings(needed=False)
    rows = [
        row._replace(source="crossfade up") if row.source == "command" else row
        for row in effective(settings, joined())
    ]
    if as_json:
        out.json([row._asdict() for row in rows])
        return
    table = Grid("setting", "value", "from")
    for row in rows:
        table.add_row(*row, style=None if row.source != "default" else "dim")
    out.print(table)
