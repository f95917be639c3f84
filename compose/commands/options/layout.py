"""The options ``--processes`` and ``--workers`` of ``crossfade serve`` and ``crossfade up``."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.supervisor.supervisor import Layout

__all__ = ["Processes", "Workers", "layout_of"]

Processes = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        metavar="N",
        help="Number of processes that accept. They consume too, unless there are --workers.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, max=256, metavar="M", help="Number of processes that only consume.")
]


def layout_of(processes: int | None, workers: int) -> Layout | None:
    """Return the layout of the options; ``None`` for one process without a supervisor."""
    if processes is None and not workers:
        return None
    return Layout(processes or 1, workers)
