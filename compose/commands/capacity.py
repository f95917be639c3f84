"""``crossfade capacity``: the cores, processes and memory that a rate of messages needs."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from compose.capacity.costs import Costs, measured_costs
from compose.capacity.model import Capacity, Ceiling, capacity, ceiling
from compose.commands.options.common import Json
from compose.grid import Grid
from compose.output import out
from compose.terminal import styled

__all__ = ["show"]

_MACHINES = (2, 4, 8, 16)
_NAMES = {
    "ingress": "accept (--processes)", "worker": "persist (--workers)", "log": "Redis",
    "postgres": "PostgreSQL",
}  # fmt: skip
_LIMITS = {"cores": "all cores are busy", "log": "Redis has one core; Kafka has no such limit"}


def show(
    *,
    rate: Annotated[
        float, typer.Option(min=0.1, metavar="N", help="Messages a second, at the peak.")
    ],
    content: Annotated[
        int,
        typer.Option(
            "--bytes", min=0, max=1_000_000, metavar="N", help="Content of a message, in bytes."
        ),
    ] = 200,
    busy: Annotated[
        int, typer.Option(min=10, max=100, metavar="PERCENT", help="How busy a core may be.")
    ] = 60,
    as_json: Json = False,
) -> None:
    """Show the cores, processes and memory that a rate needs.

    The figures come from a model with measured costs. docs/capacity.md describes the measurement,
    and what the model leaves out.
    """
    costs = measured_costs()
    answer = capacity(costs, rate, content, busy / 100)
    machines = [ceiling(costs, cores, content, busy / 100) for cores in _MACHINES]
    if as_json:
        told = {"needs": answer, "machines": machines, "costs": costs}
        out.json(msgspec.to_builtins(told))
        return
    out.print(
        f"{rate:,g} messages a second with {content:,} bytes of content, each core {busy} % busy:"
    )
    for part in (_needs(answer), "", *_memory(answer), "", _ceilings(machines), _source(costs)):
        out.print(part)


def _needs(answer: Capacity) -> Grid:
    table = Grid()
    table.add_column("part")
    table.add_column("busy cores", right=True)
    table.add_column("processes", right=True)
    for part, need in answer.parts.items():
        processes = "" if need.processes is None else str(need.processes)
        table.add_row(_NAMES[part], f"{need.cores:.2f}", processes)
    table.add_row("all, with room to spare", f"{answer.cores:.1f}", "")
    return table


def _memory(answer: Capacity) -> list[str]:
    lines = []
    if not answer.log_is_enough:
        lines.append("One Redis can't take that many: use Kafka, or let its core be busier.")
    hour = answer.rows_bytes_a_day / 24
    lines.append(
        f"Redis keeps {answer.redis_bytes / 1e9:,.2f} GB, and {hour / 1e9:,.1f} GB more for each "
        f"hour that PostgreSQL is down."
    )
    lines.append(f"PostgreSQL grows by {answer.rows_bytes_a_day / 1e9:,.1f} GB a day.")
    return lines


def _ceilings(machines: list[Ceiling]) -> Grid:
    table = Grid()
    table.title = "Everything on one machine"
    table.add_column("cores", right=True)
    table.add_column("messages a second", right=True)
    table.add_column("limit")
    for machine in machines:
        table.add_row(
            str(machine.cores), f"{machine.messages_per_second:,}", _LIMITS[machine.limit]
        )
    return table


def _source(costs: Costs) -> object:
    return styled(
        (f"Measured {costs.measured_at} on {costs.machine}; {costs.log}, {costs.postgres}.", "dim")
    )
