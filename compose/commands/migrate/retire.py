"""``crossfade migrate retire``: removes a log that nothing needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from compose.commands.migrate.lost import give_up, refuse
from compose.commands.migrate.session import explained, session
from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.log_name import named_log
from compose.commands.options.operator_action import Why, caller
from compose.counting import counted
from compose.grid import Grid
from compose.output import client_settings, err, out
from compose.terminal import confirm, progress_bar, styled
from migration_guide.retirement import Retirement, judge_retirement, opened
from migration_guide.retirement import retire as remove
from transport.contract import Holding

__all__ = ["retire"]

_REFUSED = 1


def retire(
    log: Annotated[
        str,
        typer.Argument(metavar="LOG", callback=named_log, help="The log: redis, kafka, redis@32."),
    ],
    *,
    why: Why,
    discard_letters: Annotated[
        bool,
        typer.Option(
            "--discard-letters", help="Lose the dead letters whose bytes PostgreSQL does not have."
        ),
    ] = False,
    lost: Annotated[
        bool,
        typer.Option(
            "--lost",
            help="Its servers and disks are gone: only record it. All processes run without it.",
        ),
    ] = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="With --lost: the other log may lack messages that were acknowledged.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove a log, once it is proved that nothing needs it.

    It reads the whole log and looks for the row of each record. It refuses, with exit status 1,
    while there is an obstacle. There is no way back to a removed log, and its name can't be used
    again: processes whose settings name it refuse to start. A log that was never used is only taken
    out of the migration.

    With --lost it reads and removes nothing: the other log of the migration is then the one that is
    written and read. It refuses while the log answers, and if the other log may lack acknowledged
    messages: it lists these, and --accept-loss gives them up.
    """
    if lost:
        give_up(log, why=why, accept_loss=accept_loss, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    proof = explained(lambda: _judge(log, discard_letters=discard_letters))
    if not as_json:
        _show(proof)
    is_nothing = not proof.exists and not proof.in_migration
    if proof.obstacles or is_nothing:
        if as_json:
            out.json(_data(proof, retired=False))
        raise typer.Exit(_REFUSED if proof.obstacles else 0)
    if not dry_run and not yes:
        confirm(f"Remove {log} with all that it holds?")
    removed = proof.holdings if dry_run else explained(lambda: _remove(proof, why=why))
    if as_json:
        out.json(_data(proof, retired=proof.used and not dry_run))
    elif dry_run:
        out.print(styled((f"would be {_done(proof)}", "dim")))
    elif not proof.exists:
        out.print(f"{log}: {_done(proof)}")
    else:
        out.print(styled(("retired:", "green"), f" {log}: {_count(removed)} removed"))


async def _judge(name: str, *, discard_letters: bool) -> Retirement:
    settings = client_settings(say=False).transport
    async with session() as (steps, pool), opened(name, settings) as log:
        held = [] if log is None else await log.remove(dry_run=True)
        total = sum(holding.records or 0 for holding in held)
        with progress_bar(err) as bar:
            task = bar.add_task("comparing with PostgreSQL", total=total)
            return await judge_retirement(
                steps,
                pool,
                name,
                log,
                discard_letters=discard_letters,
                compared=lambda more: bar.advance(task, more),
            )


async def _remove(proof: Retirement, *, why: str) -> Sequence[Holding]:
    settings = client_settings(say=False).transport
    async with session(say=False) as (steps, pool), opened(proof.log, settings) as log:
        return await remove(steps, pool, proof, log, who=caller(), why=why)


def _show(proof: Retirement) -> None:
    if not proof.exists:
        out.print(f"{proof.log}: nothing is there")
    else:
        out.print(
            f"{counted(proof.records, 'record')} and {counted(proof.letters, 'dead letter')} "
            "compared with PostgreSQL; to be redriven or discarded there: "
            f"{counted(proof.pending_letters, 'letter')}"
        )
        out.print()
        table = Grid("kind")
        table.add_column("name")
        table.add_column("records", right=True)
        table.add_column("bytes", right=True)
        for held in proof.holdings:
            table.add_row(held.kind, held.name, _number(held.records), _number(held.bytes))
        out.print(table)
        out.print()
    refuse(proof.obstacles)


def _done(proof: Retirement) -> str:
    if proof.exists:
        return "removed"
    if proof.used:
        return "retired, and nothing removed"
    return "taken out of the migration; it was never used, so its name stays free"


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _count(removed: Sequence[Holding]) -> str:
    records = sum(held.records or 0 for held in removed)
    size = sum(held.bytes or 0 for held in removed)
    kinds = ", ".join(
        counted(sum(held.kind == kind for held in removed), kind)
        for kind in dict.fromkeys(held.kind for held in removed)
    )
    return f"{kinds}; {counted(records, 'record')}" + (f", {size:,} bytes" if size else "")


def _data(proof: Retirement, *, retired: bool) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(proof)
    return {**data, "retired": retired}
