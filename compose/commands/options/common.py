"""The options of nearly every command: JSON, wide tables, no question, a dry run."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.output import out

__all__ = ["DryRun", "Json", "JsonLines", "LargeShare", "Wide", "Yes"]


def _show_wide(*, wide: bool) -> None:
    out.wide = wide


Json = Annotated[bool, typer.Option("--json", help="Print JSON; errors too, on standard error.")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON objects, one a line, as things happen.")
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide", callback=_show_wide, help="Show every column whole, however wide it gets."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")
]
LargeShare = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Share of messages whose content is large, in a payload store."
    ),
]
