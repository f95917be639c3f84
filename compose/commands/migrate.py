"""``crossfade migrate``: from one log to another under live traffic, and back, a step at a time."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Annotated, NoReturn

import typer

from compose.commands import migrate_tables as shown
from compose.commands.dlq_selection import caller, said
from compose.commands.migrate_backfill import backfill, backfills
from compose.commands.migrate_parity import parity
from compose.commands.migrate_session import explained, session
from compose.commands.migrate_waiting import Judge, see_through, wait_for_gates
from compose.commands.migrate_watch import watch
from compose.commands.rehearse import rehearse
from compose.console import err, fail, out, working
from compose.terminal import confirm, styled
from migration_guide.gates import ACCEPTABLE, OVERRIDABLE
from migration_guide.gates.result import Result
from migration_guide.phases import PHASES
from migration_guide.steps import Checked, Steps, passed, refused, way_on
from persistence.migration_state import history as read_history
from persistence.processes import forget as forget_process

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Change the log under live traffic: where it stands, one step on, one step back.",
)

app.command()(watch)

_REFUSED = 1
_UNKNOWN = 3
_JUDGING = "Judging the gates; some read both logs ..."

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Why = Annotated[str, typer.Option(help="Kept in the history with your name.", callback=said)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Window = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="How far back parity has to have held.")
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-unknown",
        metavar="GATE=REASON",
        help="Go on although this gate can't tell; repeat for each. Recorded with its reason.",
    ),
]
Overrule = Annotated[
    list[str] | None,
    typer.Option(
        "--overrule",
        metavar="GATE=REASON",
        help="Go on although this gate is red (durability, workers, parity only); repeat for each. "
        "Recorded with its reason.",
    ),
]
Queue = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Queue the step: wait so long for red gates to turn green."
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Stay until every process is on the new phase.")
]
Timeout = Annotated[
    float | None, typer.Option(min=1, metavar="SECONDS", help="Wait at most so long for them.")
]


app.command()(parity)
app.command()(backfill)
app.command()(backfills)
app.command()(rehearse)


@app.command()
def status(
    *,
    events: Annotated[int, typer.Option(min=0, help="Show so many lines of history.")] = 10,
    as_json: Json = False,
) -> None:
    """Show the phase, who runs what, what is queued, and what happened."""

    async def main() -> None:
        async with session() as (migration, pool):
            look = await migration.look()
            lines = await read_history(pool, events) if events else []
        if as_json:
            out.json(shown.plain_data({**shown.as_data(look), "history": lines}))
            return
        out.print(shown.head(look.state))
        out.print()
        out.print(shown.processes(look.processes, look.state.expected))
        if not look.state.settled:
            verdict = look.reached
            out.print()
            out.print(f"Every process on {look.state.target}? {verdict.verdict}: {verdict.reason}")
        if lines:
            out.print()
            out.print(shown.history(lines))

    explained(main)


@app.command()
def check(
    *,
    back: Annotated[bool, typer.Option("--back", help="The step back instead.")] = False,
    window: Window = 300.0,
    as_json: Json = False,
) -> None:
    """Judge the gates of the next step, and change nothing. Status 0: green, 1: red, 3: unknown."""

    async def main() -> Checked:
        async with session() as (migration, _):
            step = migration.next_step((await migration.look()).state, forward=not back)
            return await migration.check(step, window=window)

    with working(_JUDGING):
        checked = explained(main)
    if as_json:
        out.json(
            shown.plain_data(
                {
                    "from": checked.step.origin,
                    "to": checked.step.to,
                    "epoch": checked.look.state.epoch,
                    "gates": checked.results,
                }
            )
        )
    else:
        _show_gates(checked)
    raise typer.Exit(_status(checked.results))


@app.command(
    "rollback", help="Take one step back; while a step is under way, back to where it came from."
)
@app.command(
    "advance",
    help="Take the next step: judge its gates, record it, say what to restart, and see it through.",
)
def take(
    called: typer.Context,
    *,
    why: Why,
    yes: Yes = False,
    window: Window = 300.0,
    accept_unknown: Accept = None,
    overrule: Overrule = None,
    queue: Queue = 0.0,
    wait: Wait = True,
    timeout: Timeout = None,
) -> None:
    """Take a step, in the direction that the command says."""
    forward = called.info_name == "advance"
    accepted = _reasons(accept_unknown, ACCEPTABLE, "accepted when it can't tell")
    overruled = _reasons(overrule, OVERRIDABLE, "overruled")
    who = caller()

    async def decide() -> Checked:
        async with session() as (migration, _):
            look = await migration.look()
            done = await migration.complete(look, who=who)
            state = done or look.state
            return await migration.check(migration.next_step(state, forward=forward), window=window)

    with working(_JUDGING):
        checked = explained(decide)
    _show_gates(checked)

    in_the_way = partial(refused, accepted=accepted, overridden=overruled)
    to_wait_for = in_the_way(checked.results)
    if to_wait_for and not queue:
        _refuse(to_wait_for)
    target = PHASES[checked.step.to].label
    if not yes:
        confirm(f"From phase {PHASES[checked.step.origin].label} to {target}?")

    async def judged(migration: Steps) -> Checked:
        """Return what the gates say when the step begins."""
        if to_wait_for:
            return await wait_for_gates(
                migration, checked, who=who, why=why, seconds=queue, window=window,
                stands_in_the_way=in_the_way,
            )  # fmt: skip
        # The operator's answer took its time, and a gate may have turned red in it.
        return checked if yes else await _judged_again(migration, checked, window, in_the_way)

    async def begin() -> None:
        async with session() as (migration, _):
            last = await judged(migration)
            reasons = passed(last.results, accepted=accepted, overridden=overruled)
            await migration.begin(
                last, who=who, why=why, overrides=reasons, queued=bool(to_wait_for)
            )

    explained(begin)
    out.print()
    out.print(shown.instructions(checked.step))
    if wait:
        out.print()
        explained(lambda: see_through(who=who, to=checked.step.to, timeout=timeout))


@app.command()
def cancel(*, why: Why) -> None:
    """Take the queued step away. Whoever waits for it is told."""

    async def main() -> None:
        async with session() as (migration, _):
            look = await migration.look()
            await migration.machine.cancel(look.state.epoch, who=caller(), why=why)

    explained(main)
    out.print("cancelled")


@app.command()
def forget(
    member: Annotated[str, typer.Argument(help="The process, as 'status' names it.")],
    *,
    why: Why,
    yes: Yes = False,
) -> None:
    """Say that a missing process is gone for good. One that is cut off and at work is not gone."""
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
        fail(f"no process {member} is missing: 'crossfade migrate status' lists them")
    out.print("forgotten")


def _show_gates(checked: Checked) -> None:
    origin, to = PHASES[checked.step.origin], PHASES[checked.step.to]
    step = (f"{origin.label} -> {to.label}", "bold")
    out.print(styled(step, f"   epoch {checked.look.state.epoch}"))
    out.print(shown.gates(checked.results))


async def _judged_again(
    migration: Steps, checked: Checked, window: float, in_the_way: Judge
) -> Checked:
    again = await migration.check(checked.step, window=window)
    if turned := in_the_way(again.results):
        _refuse(turned)
    return again


def _refuse(in_the_way: list[Result]) -> NoReturn:
    err.print()
    for one in in_the_way:
        said = f" {one.name} is {one.verdict}: {one.reason}"
        err.print(styled(("refused:", "red"), said))
    if options := way_on(in_the_way):
        err.print(styled((f"to take it upon you: {' '.join(options)}", "dim")))
    raise typer.Exit(_status(in_the_way))


def _status(results: list[Result]) -> int:
    verdicts = {one.verdict for one in results}
    return _REFUSED if "red" in verdicts else _UNKNOWN if "unknown" in verdicts else 0


def _reasons(given: list[str] | None, gates: Collection[str], can_be: str) -> dict[str, str]:
    reasons = {}
    for one in given or []:
        gate, _, reason = one.partition("=")
        if gate not in gates:
            raise typer.BadParameter(
                f"{gate!r} is no gate that can be {can_be}: those are {', '.join(sorted(gates))}"
            )
        if not reason.strip():
            raise typer.BadParameter(f"{one!r}: say why, as {gate}='the reason'")
        if gate in reasons:
            raise typer.BadParameter(f"{gate} is named twice: give it one reason")
        reasons[gate] = reason.strip()
    return reasons
