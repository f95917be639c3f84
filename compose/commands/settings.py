"""``crossfade settings``: what is in force, and where it came from."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from compose.console import out, settings_or_exit
from compose.settings import effective

__all__ = ["show"]


def show(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show every setting as it is in force, secrets masked, and where it came from."""
    rows = effective(settings_or_exit())
    if as_json:
        out.print_json(json.dumps([row._asdict() for row in rows]))
        return
    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row, style=None if row.source != "default" else "dim")
    out.print(table)
