"""``crossfade migrate retire --lost``: gives up a log whose servers and disks are gone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import typer

from compose.commands.migrate.session import explained, session
from compose.commands.options.operator_action import caller
from compose.output import client_settings, err, out, warn
from compose.terminal import confirm, styled
from migration_guide.lost_log import LogLoss, judge_loss, retire_lost
from migration_guide.retirement import Obstacle

__all__ = ["give_up", "refuse"]

_REFUSED = 1


def refuse(obstacles: Sequence[Obstacle]) -> None:
    """Print the obstacles to retiring a log, each with its remedy."""
    for obstacle in obstacles:
        err.print(styled(("refused:", "red"), f" {obstacle.name}: {obstacle.reason}"))
        err.print(styled((f"  {obstacle.remedy}", "dim")))


def give_up(
    name: str, *, why: str, accept_loss: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Give up a log that is gone for good, once no process uses it any more."""
    settings = client_settings(say=False).transport

    async def judged() -> LogLoss:
        async with session() as (steps, pool):
            return await judge_loss(steps, pool, name, settings, accept_loss=accept_loss)

    loss = explained(judged)
    if not as_json:
        _show(name, loss)
    if loss.obstacles or dry_run:
        if as_json:
            out.json({"log": name, "retired": False, **_data(loss)})
        elif dry_run and not loss.obstacles:
            out.print(styled(("would be retired as lost", "dim")))
        if loss.obstacles:
            raise typer.Exit(_REFUSED)
        return
    if not yes:
        confirm(f"Give {name} up for good? Nothing that comes back of it will be read.")

    async def taken() -> str | None:
        async with session(say=False) as (steps, pool):
            return await retire_lost(
                steps, pool, name, settings, who=caller(), why=why, accept_loss=accept_loss
            )

    left = explained(taken)
    if as_json:
        out.json({"log": name, "retired": True, "left": left, **_data(loss)})
    else:
        then = f"; {left} is written and read" if left else ""
        out.print(styled(("retired:", "green"), f" {name} as lost{then}"))


def _show(name: str, loss: LogLoss) -> None:
    refuse(loss.obstacles)
    if not loss.asked:
        warn(f"no settings lead to {name}, so it was not asked whether it answers", label="note")
    if not loss.obstacles:
        for text in loss.missing:
            warn(f"accepted: {text}", label="lost")


def _data(loss: LogLoss) -> dict[str, object]:
    return {
        "asked": loss.asked,
        "missing": loss.missing,
        "obstacles": msgspec.to_builtins(loss.obstacles),
    }
