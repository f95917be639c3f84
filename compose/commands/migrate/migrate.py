"""``crossfade migrate``: changes the log under live traffic, one step at a time, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.commands.migrate import tables
from compose.commands.migrate.backfill import backfill
from compose.commands.migrate.forget_log import forget_log
from compose.commands.migrate.parity import parity
from compose.commands.migrate.plan import plan
from compose.commands.migrate.retire import retire
from compose.commands.migrate.run import run
from compose.commands.migrate.session import explained, session
from compose.commands.migrate.take import JUDGING, Window, show_gates, take
from compose.commands.migrate.waiting import status_of
from compose.commands.migrate.watch import watch
from compose.commands.options.common import DryRun, Json, Wide, Yes
from compose.commands.options.operator_action import Why, caller
from compose.output import UNKNOWN, fail, out, working
from compose.terminal import confirm, styled
from ingress.console.health.shadows import missing_sentences
from migration_guide.steps import Checked
from persistence.database.pool import using
from persistence.fleet.migration_state import history as read_history
from persistence.fleet.missing_copies import missing_now
from persistence.fleet.processes import forget as forget_process

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Change the log under live traffic, a step on or back.",
)

app.command()(plan)
app.command()(run)
app.command()(watch)

_NOT_MISSING = "no process {} is missing: 'crossfade migrate status' lists them"

app.command()(parity)
app.command()(backfill)
app.command()(retire)
app.command()(forget_log)


@app.command()
def status(
    *,
    events: Annotated[int, typer.Option(min=0, help="Lines of history.")] = 10,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Show the phase, processes, queue, missing copies and history."""

    async def main() -> None:
        async with session() as (migration, pool):
            look = await migration.look()
            async with using(pool) as connection:
                missing = await missing_now(connection, look.state)
            found = await read_history(pool, events + 1) if events else []
        lines, more = found[:events], len(found) > events
        if as_json:
            data = {
                **tables.as_data(look),
                "missing": {"records": missing.records, "partitions": missing.partitions},
                "history": lines,
                "history_goes_on": more,
            }
            out.json(tables.plain_data(data))
            return
        out.print(tables.head(look.state))
        out.print()
        out.print(tables.processes(look.processes, look.state.pair, look.state.expected))
        if look.state.under_way or look.reached.verdict == "red":
            out.print()
            out.print(tables.under_way(look))
        for sentence in missing_sentences(missing):
            out.print()
            out.print(styled((sentence.text, "yellow"), f" {sentence.next}"))
        if lines:
            out.print()
            out.print(tables.history(lines))
        if more:
            out.print(styled((f"These are the latest {events}; --events shows more.", "dim")))

    explained(main)


@app.command()
def check(
    *,
    back: Annotated[bool, typer.Option("--back", help="Judge the step back instead.")] = False,
    window: Window = 300.0,
    as_json: Json = False,
) -> None:
    """Judge the gates of the next step, and change nothing.

    Exit status 0 if all are green, 1 if one is red, 3 if one is unknown or PostgreSQL can't be
    asked.
    """

    async def main() -> Checked:
        async with session() as (migration, _):
            step = migration.next_step((await migration.look()).settled, forward=not back)
            return await migration.check(step, window=window)

    with working(JUDGING):
        checked = explained(main, unreachable=UNKNOWN)
    if as_json:
        out.json(tables.step_data(checked))
    else:
        show_gates(checked)
    raise typer.Exit(status_of(checked.results))


app.command(
    "advance",
    help="Take the next step, if its gates allow it, and see it through.",
)(take)
app.command("rollback", help="Take one step back, or back out of the one under way.")(take)


@app.command()
def cancel(*, why: Why, as_json: Json = False) -> None:
    """Cancel the queued step.

    The command that waits for the step ends.
    """

    async def main() -> None:
        async with session() as (migration, _):
            look = await migration.look()
            await migration.machine.cancel(look.state.epoch, who=caller(), why=why)

    explained(main)
    if as_json:
        out.json({"cancelled": True})
        return
    out.print("cancelled")


@app.command()
def forget(
    member: Annotated[str, typer.Argument(help="The process, as 'status' names it.")],
    *,
    why: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Say that a missing process is gone for good.

    A process that is only cut off from PostgreSQL, and goes on with its work, is not gone.
    """
    if not explained(lambda: _is_missing(member)):
        fail(_NOT_MISSING.format(member))
    if dry_run:
        if as_json:
            out.json({"wouldForget": member})
        else:
            out.print(f"would forget {member}")
        return
    if not yes:
        confirm(f"Is {member} really gone, not only cut off from PostgreSQL?")

    async def main() -> bool:
        async with session() as (migration, pool):
            state = (await migration.look()).state
            if not await forget_process(pool, member):
                return False
            await migration.machine.note(state, "forgotten", who=caller(), why=f"{member}: {why}")
            return True

    if not explained(main):
        fail(_NOT_MISSING.format(member))
    if as_json:
        out.json({"forgotten": member})
        return
    out.print("forgotten")


async def _is_missing(member: str) -> bool:
    async with session() as (migration, _):
        look = await migration.look()
        return any(process.member == member and not process.live for process in look.processes)
