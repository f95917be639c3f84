"""Measures the whole path at one load in interleaved rounds, to see quickly what a change did."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from lab.bench.figure import Point
from lab.bench.stand import stand
from lab.bench.whole_path.contenders import CONTENDERS, Contender, other_checkout
from lab.bench.whole_path.measure import measure
from lab.bench.whole_path.offered import Offered
from lab.bench.whole_path.table import show_points


def main(  # noqa: PLR0913 - options of a command
    *,
    service: Annotated[
        list[str] | None, typer.Option(help=f"Repeat it; of: {', '.join(CONTENDERS)}.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another checkout, with its .venv made.")
    ] = None,
    connections: Annotated[int, typer.Option(help="Open at once.")] = 64,
    rate: Annotated[float, typer.Option(help="Messages a second; 0: a closed loop.")] = 0.0,
    seconds: Annotated[float, typer.Option(help="Of each round.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="Of each service, in turn.")] = 3,
    partitions: Annotated[int, typer.Option(help="STREAM_PARTITIONS.")] = 16,
    transport: Annotated[
        str, typer.Option(help="redis, kafka, redis-everysec or kafka-fsync.")
    ] = "redis",
    setting: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A setting of the service.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each round as JSON.")] = False,
) -> None:
    """Load each service in turn and print the medians."""
    offered = Offered(
        connections=connections,
        rate=rate or None,
        seconds=seconds,
        partitions=partitions,
        settings=dict(pair.partition("=")[::2] for pair in setting or []),
    )
    contenders = [CONTENDERS[name] for name in service or ["crossfade"]]
    contenders += [other_checkout(path) for path in beside or []]
    points = asyncio.run(_rounds(contenders, offered, rounds, transport))
    if as_json:
        print(json.dumps(msgspec.to_builtins(points), indent=2))
    else:
        show_points(Console(), points)


async def _rounds(
    contenders: list[Contender], offered: Offered, rounds: int, transport: str
) -> list[Point]:
    points = []
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        async with stand(Path(folder), transport) as servers:
            for _ in range(rounds):
                points += [await measure(servers, contender, offered) for contender in contenders]
    return points


if __name__ == "__main__":
    typer.run(main)
