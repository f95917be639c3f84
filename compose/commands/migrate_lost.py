"""``crossfade migrate retire --lost``: give up a log whose servers and disks are gone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import typer

from compose.commands.dlq_selection import caller
from compose.commands.migrate_session import explained, session
from compose.output import err, out
from compose.terminal import confirm, styled
from migration_guide.lost_log import judge_loss, retire_lost
from migration_guide.retirement import Obstacle

__all__ = ["give_up", "refuse"]

_REFUSED = 1


def refuse(obstacles: Sequence[Obstacle]) -> None:
    """Say what keeps a log from being retired, and what takes each away."""
    for obstacle in obstacles:
        err.print(styled(("refused:", "red"), f" {obstacle.name}: {obstacle.reason}"))
        err.print(styled((f"  {obstacle.remedy}", "dim")))


def give_up(name: str, *, why: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Give up a log that is gone for good, once nothing names it any more."""

    async def judged() -> list[Obstacle]:
        async with session() as (steps, _):
            _, obstacles = await judge_loss(steps, name)
            return obstacles

    obstacles = explained(judged)
    if not as_json:
        refuse(obstacles)
    if obstacles or dry_run:
        if as_json:
            out.json({"log": name, "retired": False, "obstacles": msgspec.to_builtins(obstacles)})
        elif dry_run and not obstacles:
            out.print(styled(("would be retired as lost", "dim")))
        if obstacles:
            raise typer.Exit(_REFUSED)
        return
    if not yes:
        confirm(f"Give {name} up for good? Nothing that comes back of it will be read.")

    async def taken() -> str:
        async with session(say=False) as (steps, _):
            return await retire_lost(steps, name, who=caller(), why=why)

    left = explained(taken)
    if as_json:
        out.json({"log": name, "retired": True, "left": left, "obstacles": []})
    else:
        out.print(styled(("retired:", "green"), f" {name} as lost; {left} is written and read"))
