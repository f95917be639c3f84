"""``make bench``: measures every figure and its baseline; prints a table and saves JSON."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from lab.bench.figure import Figure
from lab.bench.figures import (
    batch_post,
    drain,
    posted_memory,
    publish,
    single_post,
    steady,
    table_sizes,
    tracing,
)
from lab.bench.logs import LOGS
from lab.bench.payloads.measure import measure as payloads
from lab.bench.plan import FULL, QUICK, Plan
from lab.bench.report import save, show, side_by_side
from lab.bench.stand import Stand, stand
from lab.bench.whole_path import parts
from lab.bench.whole_path.contenders import CONTENDERS
from lab.bench.whole_path.two_logs import as_the_log_changes

Measure = Callable[[Stand, Plan], Awaitable[list[Figure]]]
PARTS: dict[str, Measure] = {
    "whole": parts.beside_others,
    "rates": parts.at_rates,
    "partitions": parts.on_partitions,
    "growth": parts.as_it_grows,
    "sizes": table_sizes.measure,
    "shadow": parts.with_a_shadow,
    "change": as_the_log_changes,
    "overload": parts.overloaded,
    "single": single_post.measure,
    "publish": publish.measure,
    "batch": batch_post.measure,
    "drain": drain.measure,
    "payloads": payloads,
    "memory": posted_memory.measure,
    "steady": steady.measure,
    "tracing": tracing.measure,
}


def main(
    only: Annotated[str, typer.Option(help=f"Comma-separated, of: {', '.join(PARTS)}.")] = "",
    transport: Annotated[
        str,
        typer.Option(
            envvar="TRANSPORT",
            help="The log: redis, kafka, redis-everysec, kafka-fsync, or both (the first two).",
        ),
    ] = "redis",
    runs: Annotated[int, typer.Option(help="Interleaved runs; 0 takes the plan's.")] = 0,
    *,
    rows: Annotated[
        int,
        typer.Option(
            help="Of the largest table of sizes and growth, and three tenths of it in growth's "
            "backlog; 0: the plan's."
        ),
    ] = 0,
    quick: Annotated[bool, typer.Option(help="Seconds instead of minutes; not a figure.")] = False,
) -> None:
    """Measure, print the table and keep the JSON. Exits with 1 if a target is not met."""
    wanted = [name.strip() for name in only.split(",") if name.strip()] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"--only: no {', '.join(unknown)}; there is {', '.join(PARTS)}")
    logs = ["redis", "kafka"] if transport == "both" else [transport]
    if unmeasured := set(logs) - set(LOGS):
        raise typer.BadParameter(
            f"--transport: no {', '.join(unmeasured)}; there is {', '.join(LOGS)} and both"
        )
    plan = QUICK if quick else FULL
    if runs:
        plan = msgspec.structs.replace(plan, runs=runs, rounds=runs)
    if rows:
        sizes = tuple(10**power for power in range(5, 12) if 10**power < rows)
        plan = msgspec.structs.replace(
            plan, rows_large=rows, backlog_large=3 * rows // 10, table_sizes=(*sizes, rows)
        )
    console = Console()
    found = {log: asyncio.run(_measure(console, log, wanted, plan, quick=quick)) for log in logs}
    for log, figures in found.items():
        show(console, figures, title=f"{log} (median of the runs)")
    if len(found) > 1:
        side_by_side(console, found)
    met = all(figure.met for figures in found.values() for figure in figures)
    if not quick and not met:
        raise typer.Exit(1)


async def _measure(
    console: Console, transport: str, wanted: list[str], plan: Plan, *, quick: bool
) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        async with stand(Path(folder), transport) as servers:
            absent = [contender.name for contender in CONTENDERS.values() if not contender.needs()]
            if absent:
                console.print(f"[bold red]not here, so not measured: {', '.join(absent)}[/]")
            for name in wanted:
                console.print(f"measuring {name} on {transport} ...")
                figures += await PARTS[name](servers, plan)
            path = save(figures, transport=transport, quick=quick, servers=servers.versions())
    console.print(f"kept in {path}")
    return figures


if __name__ == "__main__":
    typer.run(main)
