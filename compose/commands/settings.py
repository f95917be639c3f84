"""``crossfade settings``: the values in force, and their sources."""

from __future__ import annotations

from compose.commands.options.common import Json, Wide
from compose.grid import Grid
from compose.output import client_settings, joined, out
from compose.settings import effective

__all__ = ["show"]


def show(*, as_json: Json = False, _wide: Wide = False) -> None:
    """Show the settings in force, and where each came from.

    Secrets are masked. If a 'crossfade up' runs in this folder, these are its settings.
    """
    settings = client_settings(needed=False)
    rows = [
        row._replace(source="crossfade up") if row.source == "command" else row
        for row in effective(settings, joined())
    ]
    if as_json:
        out.json([row._asdict() for row in rows])
        return
    table = Grid("setting", "value", overflows=True)
    table.add_column("from", drop=1)
    for row in rows:
        table.add_row(*row, style=None if row.source != "default" else "dim")
    out.print(table)
