"""``make bench``: every figure, each beside its baseline, as a table and as JSON."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import batch_post, drain, posted_memory, single_post, steady, tracing
from benchmarks.figure import Figure
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.report import save, show
from benchmarks.stand import Stand, stand

Measure = Callable[[Stand, Plan], Awaitable[list[Figure]]]
PARTS: dict[str, Measure] = {
    "single": single_post.measure,
    "batch": batch_post.measure,
    "drain": drain.measure,
    "memory": posted_memory.measure,
    "steady": steady.measure,
    "tracing": tracing.measure,
}


def main(
    only: Annotated[str, typer.Option(help=f"Comma-separated, of: {', '.join(PARTS)}.")] = "",
    transport: Annotated[str, typer.Option(envvar="TRANSPORT", help="The log.")] = "redis",
    runs: Annotated[int, typer.Option(help="Interleaved runs; 0 takes the plan's.")] = 0,
    *,
    quick: Annotated[bool, typer.Option(help="Seconds instead of minutes; not a figure.")] = False,
) -> None:
    """Measure, print the table and keep the JSON. Exits with 1 if a target is not met."""
    wanted = [name.strip() for name in only.split(",") if name.strip()] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"--only: no {', '.join(unknown)}; there is {', '.join(PARTS)}")
    if transport != "redis":
        raise typer.BadParameter(f"--transport: {transport} is not measured; there is redis")
    plan = QUICK if quick else FULL
    if runs:
        plan = Plan(
            **{name: getattr(plan, name) for name in Plan.__struct_fields__} | {"runs": runs}
        )
    figures = asyncio.run(_measure(wanted, plan, quick=quick))
    if not quick and not all(figure.met for figure in figures):
        raise typer.Exit(1)


async def _measure(wanted: list[str], plan: Plan, *, quick: bool) -> list[Figure]:
    console = Console()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        async with stand(Path(folder)) as servers:
            for name in wanted:
                console.print(f"measuring {name} ...")
                figures += await PARTS[name](servers, plan)
            path = save(
                figures, transport=servers.transport, quick=quick, servers=servers.versions()
            )
    show(console, figures)
    console.print(f"kept in {path}")
    return figures


if __name__ == "__main__":
    typer.run(main)
