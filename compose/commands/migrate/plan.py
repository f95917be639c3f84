"""``crossfade migrate plan``: names the target of the next migration."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.commands.migrate.session import explained, session
from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.log_name import named_log
from compose.commands.options.operator_action import Why, caller
from compose.counting import counted
from compose.grid import Grid
from compose.output import client_settings, out, warn
from compose.terminal import confirm, paragraph, styled
from migration_guide.phases import phases
from migration_guide.planning import MigrationPlan, planned
from migration_guide.planning import plan as record
from persistence.store.locks import BUCKETS

__all__ = ["plan", "tell_unreached"]


def plan(
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="LOG",
            callback=named_log,
            help="The log to migrate to: kafka, redis@32, kafka.eu.",
        ),
    ],
    why: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Name the log that the next migration leads to.

    It is possible while one log is written and read: in the first or the last phase. It changes no
    process; the phases get a new meaning, and phase 0 is the present log.
    """

    async def judged() -> MigrationPlan:
        async with session() as (migration, _):
            return await planned(await migration.look(), to, client_settings(say=False).transport)

    chosen = explained(judged)
    if not as_json:
        _show(chosen)
    if not dry_run:
        if not yes:
            confirm(f"Plan the migration from {chosen.pair.old} to {chosen.pair.new}?")

        async def taken() -> None:
            async with session(say=False) as (migration, _):
                await record(migration, chosen, who=caller(), why=why)

        explained(taken)
    if as_json:
        data = {
            "from": chosen.pair.old,
            "to": chosen.pair.new,
            "partitions": chosen.partitions,
            "inserters": chosen.inserters,
            "unreached": chosen.unreached,
        }
        settings = [phase.choice.environment() for phase in phases(chosen.pair)]
        out.json({**data, "phases": settings, "planned": not dry_run})
        return
    if dry_run:
        out.print(styled(("would be planned", "dim")))
        return
    out.print(styled(("planned:", "green"), f" from {chosen.pair.old} to {chosen.pair.new}"))
    out.print()
    out.print("Judge the gates of the first step, and take it:")
    out.print()
    out.print(paragraph("  crossfade migrate check"))
    out.print(paragraph(f"  crossfade migrate advance --why '{phases(chosen.pair)[1].name}'"))


def tell_unreached(chosen: MigrationPlan) -> None:
    """Warn if the new log does not answer; the plan is possible all the same."""
    if chosen.unreached:
        warn(f"{chosen.pair.new} does not answer yet: {chosen.unreached}")


def _show(chosen: MigrationPlan) -> None:
    counts = ", ".join(f"{name} has {count}" for name, count in chosen.partitions.items())
    out.print(f"Partitions: {counts}")
    new = chosen.partitions[chosen.pair.names[-1]]
    if chosen.inserters < new:
        workers = counted(chosen.inserters, "worker")
        out.print(
            paragraph(
                f"Rows of {new} partitions are inserted by {workers} at once: partitions whose "
                "numbers have the same remainder wait for each other. A count that divides "
                f"{BUCKETS} has no such wait."
            )
        )
    tell_unreached(chosen)
    out.print()
    table = Grid("phase")
    table.add_column("what", prose=True)
    for phase in phases(chosen.pair):
        table.add_row(phase.label, phase.what)
    out.print(table)
    out.print()
